"""Runs the steps of the Dockerfile in a bare Debian, where there is no container engine, and tries what comes out.

    sudo python3 infra/check_image.py /tmp/image [--build-arg DEVICE=cuda] [--bind /folder/of/wheels]

Needs root, debootstrap, and the network. The folder becomes the image's file system: Debian with Python in the place
of the image that the Dockerfile begins from. Each RUN and COPY is done in it, and then, as the image's user: the health
check without and with a node of Ray, the entry point, and a small run on Ray. It ends with the first that fails.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TRIALS = [  # in one shell, whose processes see no others and end with it
    "dap --help > /dev/null",
    "{health}",
    "ray start --head --num-cpus 2 --disable-usage-stats --include-dashboard=false",
    "for second in $(seq 60); do sleep 1; wget -q -O - http://127.0.0.1:52365/api/local_raylet_healthz && break; done",
    "{health}",
    "echo 'steps: {{rooms: {{step: simulate, source_name: rooms, panoramas: 4, height: 32}}}}' > /data/small.yaml",
    "dap run /data/small.yaml --run-dir /data/run && dap verify --run-dir /data/run",
    "ray stop",
]


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with what follows it, continued lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE)
    for line in re.sub(r"\\\n", "", text).splitlines():
        if line.strip():
            yield tuple(line.split(maxsplit=1))  # pyright: ignore[reportReturnType]


class Image:
    """A folder that is built as an image is."""

    def __init__(self, root: Path, binds: list[Path], mounted: ExitStack, build_arguments: dict[str, str]) -> None:
        self.root, self.binds, self.mounted, self.arguments = root, binds, mounted, build_arguments
        self.user, self.folder = "root", "/"

    def begin(self) -> None:
        """Debian with Python, as in the image that ours begins from."""
        packages = "ca-certificates,python3,python3-venv"
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", self.root], check=True)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        self._mount("-t", "tmpfs", "-o", "mode=1777", "shm", at="dev/shm")
        for place in self.binds:
            inside = self.root / str(place).lstrip("/")
            if place.is_file():
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.touch()
            self._mount("--bind", str(place), at=str(place).lstrip("/"))
        self.run("python3 -m venv /usr/local/python && ln -s /usr/local/python/bin/pip /usr/local/bin/pip")

    def run(self, command: str) -> None:
        """Runs a command of the shell in the image, as its user; raises CalledProcessError."""
        print(f"--- {self.user}: {command}", flush=True)
        settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")} | self.arguments
        path = "/usr/local/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = [f"{name}={value}" for name, value in settings.items()]
        home = "/root" if self.user == "root" else f"/home/{self.user}"
        shell = ["env", "-i", f"PATH={path}", f"HOME={home}", *environment, "sh", "-ec", f"cd {self.folder}\n{command}"]
        alone = ["unshare", "--pid", "--fork", f"--mount-proc={self.root / 'proc'}"]
        subprocess.run([*alone, "chroot", f"--userspec={self.user}:{self.user}", self.root, *shell], check=True)

    def _mount(self, *arguments: str, at: str) -> None:
        place = self.root / at
        if not place.exists():
            place.mkdir(parents=True)
        subprocess.run(["mount", *arguments, place], check=True)
        self.mounted.callback(subprocess.run, ["umount", "--lazy", place], check=False)

    def copy(self, sources: list[str], target: str) -> None:
        """Copies files and folders of the checkout, without what .dockerignore keeps out of every folder."""
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        place = self.root / self.folder.lstrip("/") / target
        for source in (REPOSITORY / name for name in sources):
            if source.is_dir():
                shutil.copytree(source, place, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(source, place)


def build(image: Image, dockerfile: str) -> str:
    """Does what the Dockerfile says; gives the command of its health check."""
    health = ""
    for name, rest in instructions(dockerfile):
        if name == "FROM":
            image.begin()
        elif name == "ARG":
            key, _, default = rest.partition("=")
            image.arguments.setdefault(key, default)
        elif name == "RUN":
            image.run(rest)
        elif name == "COPY":
            *sources, target = shlex.split(rest)
            image.copy(sources, target)
        elif name == "WORKDIR":
            image.folder = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            image.user = rest
        elif name == "HEALTHCHECK":
            health = rest.split("CMD", 1)[1].strip()
        elif name not in {"ENTRYPOINT", "CMD"}:
            raise SystemExit(f"{name}: no such instruction is known here")
    return health


def main() -> None:
    """Builds and tries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a folder that is not there yet")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", dest="arguments")
    parser.add_argument("--bind", type=Path, action="append", default=[], help="a path to be seen inside, too")
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("debootstrap"):
        parser.error("needs root, and debootstrap: apt-get install debootstrap")
    if options.root.exists():
        parser.error(f"{options.root} is there already")
    options.root.mkdir(parents=True)
    with ExitStack() as mounted:
        arguments = dict(argument.split("=", 1) for argument in options.arguments)
        image = Image(options.root.resolve(), options.bind, mounted, arguments)
        try:
            health = build(image, (REPOSITORY / "infra/Dockerfile").read_text())
            image.run("\n".join(trial.format(health=health) for trial in TRIALS))
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"ended with {error.returncode}: {error.cmd[-1]}") from error
    print("the image is well")


if __name__ == "__main__":
    main()
