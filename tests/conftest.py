"""What every test stands on."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Caches of the tests' own: prepared data is shared among them, and the user's stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OSTINATO_CACHE", "XDG_CACHE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield
