"""The dataset {{component}}: rows are right, and decided by options, seed and index alone."""

from {{name}}.data.{{component}} import {{class}}


def test_rows_are_right():
    source = {{class}}(0, size=50)
    for index in range(len(source)):
        row = source[index]
        assert int(row["response"]) == 2 * int(row["prompt"].removeprefix("double ").removesuffix("="))


def test_the_same_rows_again_and_the_fingerprint_tells_others_apart():
    source, again = {{class}}(0, size=5), {{class}}(0, size=5)
    assert [source[index] for index in range(5)] == [again[index] for index in range(5)]
    assert source.fingerprint == again.fingerprint
    assert source.fingerprint not in {{{class}}(1, size=5).fingerprint, {{class}}(0, size=5, first=5).fingerprint}


def test_first_goes_on_where_size_ends():
    assert {{class}}(0, size=5, first=5)[0] == {{class}}(0, size=10)[5]
