"""What holds for all tests."""

import os
import signal
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

# Not in the checkout: the tests are root's, the checkout need not be.
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "jfe-hypothesis"))
# Tests hold no timing.
settings.register_profile("jfe", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("jfe")

# Whether the tests were started by sudo, or in the background of a shell that ignores SIGINT for it, is no matter of
# theirs: they say themselves who calls, and interrupt what they start.
for name in ("SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND"):
    os.environ.pop(name, None)
signal.signal(signal.SIGINT, signal.default_int_handler)
