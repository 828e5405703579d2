"""The workers of a run: Ray Train starts them, and starts them again where one is lost."""

from __future__ import annotations

import argparse
import shutil
from typing import Any

import torch

from batch_jobs.cluster import ray_cluster
from engine.errors import ManifestInvalid
from training.pix2pix.checkpoints import Checkpoints
from training.pix2pix.log import Log
from training.pix2pix.run import Run
from training.pix2pix.settings import check_same, settings_of
from training.pix2pix.triplet_files import TripletFile, TripletFiles

RAY_FOLDER = "ray"  # of the output, while Ray Train runs


def open_triplets(options: argparse.Namespace) -> TripletFiles:
    """Read what --train_data names; raises `ManifestInvalid`."""
    columns = {"image": options.original_image_column, "instruction": options.edit_prompt_column}
    chosen = [(column, name) for name, column in columns.items() if column]
    target = options.edited_image_column
    files = [TripletFile(place, chosen, target) for place in options.train_data]
    found = TripletFiles(files, options.max_train_samples)
    if not len(found):
        raise ManifestInvalid(f"{', '.join(options.train_data)}: there is no triplet")
    return found


def prepare(options: argparse.Namespace) -> TripletFiles:
    """Look at the triplets and the output before anything is started.

    Raises `ManifestInvalid`, and `OptionInvalid` where the output holds another run.
    """
    triplets = open_triplets(options)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(options.output_dir)
    checkpoints.rewind(options.resume_from_checkpoint)
    state = checkpoints.load(torch.device("cpu"))
    if state is not None:
        now = settings_of(options, triplets.digest)
        check_same(state["settings"], now, options.output_dir)
    return triplets


def work(values: dict[str, Any]) -> None:
    """In a worker of Ray Train: learn until the end."""
    from ray.train import get_context

    options, context = argparse.Namespace(**values), get_context()
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    triplets = open_triplets(options)
    Run(options, triplets, context.get_world_rank(), context.get_world_size()).run()


def train(options: argparse.Namespace) -> None:
    """Have Ray Train run `work`; raises its `TrainingFailedError` where all tries are spent."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    is_gpu = options.device == "cuda"
    trainer = TorchTrainer(
        work,
        train_loop_config=vars(options),
        torch_config=TorchConfig(backend="nccl" if is_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=options.num_workers, use_gpu=is_gpu),
        run_config=RunConfig(
            name=RAY_FOLDER,
            storage_path=str(options.output_dir),
            failure_config=FailureConfig(max_failures=options.max_failures),
        ),
    )
    with Log(options.output_dir).shown():
        if options.num_workers == 0:
            trainer.fit()
            return
        with ray_cluster(options.address):
            trainer.fit()
    shutil.rmtree(options.output_dir / RAY_FOLDER, ignore_errors=True)
