"""How the threads of tests wait: as the program's do, which must be said before torch is loaded."""

import os

from zostudy import host

host.wait_briefly(os.environ)
