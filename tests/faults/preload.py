"""What the server of forked processes imports: everything a training run needs, so that a child starts at once."""

import ostinato.algorithms.pretrain
import ostinato.algorithms.sft
import ostinato.cli.main
import ostinato.cli.session
import ostinato.cli.train  # noqa: F401
