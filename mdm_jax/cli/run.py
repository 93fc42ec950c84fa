"""The commands of dataset-wide runs: `mdm run`, `mdm run status`, `mdm run verify`."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from mdm_jax.cli.console import Report
from mdm_jax.cli.options import Options

RUN_HELP = """Explain every image of a data set and keep everything; the same command again goes on where it stopped.

Any number of processes may share a run: on SLURM, Open MPI, Kubernetes and TPU pods the same command with --distributed, and
anywhere else with --shard 0/4, --shard 1/4 ... on each machine. OUT may be a folder or a bucket (gs://, s3://).

Examples:
  mdm run --data folder:photos --model resnet50 --out runs/photos
  mdm run --data folder:photos --split all --model vit_base_patch16_224 --targets top3 --saliency --out runs/top3
  mdm run --data digits --limit 2000 --out runs/digits
  mdm run --data tfds:my_photos --model resnet50 --method grad_cam --out gs://bucket/run --shard 0/4
  mdm run --data folder:photos --model resnet50 --out runs/photos --dry-run
  mdm run status runs/photos
  mdm run verify runs/photos
"""
STATUS_HELP = """How far a run is: chunks, images by status, size, and who is at work on it.

Examples:
  mdm run status runs/photos
"""
VERIFY_HELP = """Find chunks of a run that are missing, duplicate or corrupt, and compute them again; exits with 3 if any stay.

Examples:
  mdm run verify runs/photos
  mdm run verify runs/photos --check-only
  mdm run verify runs/photos --data folder:elsewhere/photos
"""


@dataclass(frozen=True, kw_only=True)
class Run(Options):
    data: str = "digits"
    """source of the images: digits, folder:PATH, files:PATH (images without labels), tfds:NAME,
    cub:PATH, chestxray14:PATH, or
    cropped: and one with boxes"""
    split: str = "test"
    """split of the data; all for every image of a folder or a tfds data set"""
    model: str | None = None
    """network by name; by its weights alone when not given; without either the embedded digits
    network"""
    weights: str | None = None
    """hub id, folder with config.json and model.safetensors, safetensors file, or folder of a
    training"""
    image_size: int | None = None
    """side of the network's input in pixels, in place of its config's"""
    dtype: str = "float32"
    """what the network computes in: float32 or bfloat16"""
    method: str = "mdm"
    """what explains: mdm, with --preset and --config, another method with its settings, such as
    rise:samples=1000, or a function of yours, such as my_methods.py:inverse"""
    targets: str = "prediction"
    """which classes of each image: prediction (the network's first choice), label (the true class),
    top5, or some as in 3,7"""
    node: str | None = None
    """what is explained: probability, logit, log_odds, sigmoid, logits, or a function of yours,
    such as my_nodes.py:margin; by default what the method's authors explain"""
    limit: int | None = None
    """use only so many images, spread evenly over the data"""
    saliency: bool = False
    """keep the saliency maps too (float16); mask vectors are kept always, and give the maps on
    demand"""
    chunk: int = 64
    """images in a chunk: what is written at a time, and lost at most when the command is killed"""
    slots: bool | None = None
    """True: put a new image in the place of each that has converged; by default where MDM runs
    until it converges and micro-batch is more than one"""
    workers: int = 0
    """processes that read images; 0 reads in threads"""
    shard: str | None = None
    """i/n: do the i-th of n shares, i from 0"""
    distributed: bool = False
    """share the run with the other processes of the cluster that this one runs on"""
    coordinator: str | None = None
    """host:port of the first process where there is no cluster to ask; needs --shard"""
    strict: bool = False
    """exit with code 3 when an image could not be read or explained"""
    dry_run: bool = False
    """say what would run, how large it gets and how long it takes, from one timed batch; writes
    nothing"""
    out: str = "mdm-run"
    """folder of the run, or a URL with gs:// or s3://"""

    def run(self, report: Report) -> int:
        from mdm_jax.cli import commands_runs as commands

        request = {name: getattr(self, name) for name in commands.ASKED} | {
            "settings": self.settings()
        }
        share = commands.share_of(self.shard, self.distributed, self.coordinator)
        how = {"micro_batch": self.micro_batch, "slots": self.slots, "workers": self.workers}
        if self.dry_run:
            report.show(commands.dry_run(request, how, self.out, share))
            return 0
        result, failed = commands.run(request, how, self.out, share)
        report.show(result)
        return 3 if self.strict and failed else 0


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    place: tyro.conf.Positional[str]
    """folder or URL of the run"""
    json: bool = False
    """print JSON to standard output instead of a table"""

    def run(self, report: Report) -> None:
        from mdm_jax.cli import commands_runs as commands

        report.show(commands.status(self.place))


@dataclass(frozen=True, kw_only=True)
class RunVerify:
    place: tyro.conf.Positional[str]
    """folder or URL of the run"""
    check_only: bool = False
    """only say what is wrong"""
    data: str | None = None
    """where the images are now, in place of what the run says"""
    weights: str | None = None
    """where the weights are now, in place of what the run says"""
    micro_batch: int | None = None
    """problems on each device at a time; where it was given to the run, give the same, as others
    agree to rounding only"""
    json: bool = False
    """print JSON to standard output instead of a table"""

    def run(self, report: Report) -> int:
        from mdm_jax.cli import commands_runs as commands

        moved = {"data": self.data, "weights": self.weights}
        result, faults = commands.verify_run(
            self.place,
            {name: place for name, place in moved.items() if place},
            self.check_only,
            self.micro_batch,
        )
        report.show(result)
        return 3 if faults else 0
