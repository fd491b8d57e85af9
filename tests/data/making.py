"""Sources to test with."""

from ostinato.core.manifest import hash_of


class Rows:
    """A source of given rows."""

    kind = "generated"

    def __init__(self, rows: list[dict]) -> None:
        self.rows, self.fingerprint = rows, hash_of(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return self.rows[index]

    def place(self, index: int) -> str:
        return f"rows:{index + 1}"
