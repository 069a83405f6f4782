"""A JupyterHub with the labs, to try on one machine.

    VNMI_HUB_PASSWORD="a word for the class" jupyterhub -f jupyterhub_config.py

It listens on this machine only, and everybody who has the one password may choose any name. docs/instructor/hub.md says
what a real class changes: the authenticator, the spawner, and a certificate in front.
"""

import os
import shutil
import sys
from pathlib import Path

from vnmi_lab import labs

c = get_config()  # noqa: F821  # JupyterHub gives it

# Who: any name, one password. Without a password there is no hub.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["VNMI_HUB_PASSWORD"]
c.Authenticator.allow_all = True

# Where: this machine only. The proxy is the one of this environment, else the one on the path. It must wait for a
# server that starts, which may take longer than its 20 seconds when a whole class begins at once.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
PROXY = shutil.which("configurable-http-proxy", path=str(Path(sys.executable).parent))
c.ConfigurableHTTPProxy.command = [PROXY or "configurable-http-proxy", "--proxy-timeout=600000"]

# What: a JupyterLab for each name, in a folder of its own, with the rights of the account that the hub runs in.
HOMES = Path(os.environ.get("VNMI_HUB_HOMES", "homes")).resolve()
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(HOMES / "{username}")
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--LabApp.news_url="]  # nobody is asked about news, and nothing is looked for
if hasattr(os, "geteuid") and os.geteuid() == 0:
    c.Spawner.args += ["--allow-root"]
c.Spawner.default_url = "/lab/tree/vnmi-labs/00_start_here.ipynb"
c.Spawner.environment = {"VNMI_LAB_GRADED": os.environ.get("VNMI_LAB_GRADED", "0")}  # 1: hints, and no solutions
c.Spawner.mem_limit = "1G"  # told to every server; a spawner with containers keeps it
c.Spawner.start_timeout = 300
c.JupyterHub.cleanup_servers = True


def bring_the_labs(spawner: object) -> None:
    """Copy the labs of this installation into a learner's folder; what they changed is never overwritten."""
    labs.copy(labs.source(), HOMES / spawner.user.name / labs.WORK_FOLDER)


c.Spawner.pre_spawn_hook = bring_the_labs
