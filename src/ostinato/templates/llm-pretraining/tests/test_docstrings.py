"""The dataset: what is taken from a file, and that rows are documents of the library."""

from {{name}}.data.docstrings import Docstrings, docstrings

SOURCE = '''"""The module."""

class A:
    """A class.

        Indented.
    Not so.
    """

    def f(self):
        """Short"""

def g():
    return "no docstring"
'''


def test_docstrings_in_the_order_of_the_file_without_indentation():
    assert list(docstrings(SOURCE)) == ["The module.", "A class.\n\n    Indented.\nNot so.", "Short"]
    assert list(docstrings(SOURCE, shortest=6)) == ["The module.", "A class.\n\n    Indented.\nNot so."]


def test_a_file_that_does_not_parse_has_none():
    assert list(docstrings("def f(:")) == []


def test_rows_are_prose_and_name_their_file():
    source = Docstrings(0, megabytes=0.3)
    assert len(source) > 3
    for index in range(len(source)):
        assert len(source[index]["text"]) >= 20
        assert source.place(index).endswith(".py")


def test_the_fingerprint_is_that_of_the_content():
    assert Docstrings(0, megabytes=0.3).fingerprint == Docstrings(1, megabytes=0.3).fingerprint
    assert Docstrings(0, megabytes=0.3).fingerprint != Docstrings(0, megabytes=0.3, shortest=99).fingerprint
