"""What the server of forked processes imports: everything a training run needs, so that a child starts at once."""

import ostinato.cli.main
import ostinato.cli.session
import ostinato.cli.train  # noqa: F401
from ostinato.core.registry import ALGORITHMS, REWARDS

for registry, names in ((ALGORITHMS, ALGORITHMS.names()), (REWARDS, ["weighted_sum", "format", "length"])):
    for name in names:
        registry.get(name)
