"""The command line of `train_pix2pix`: the flags of diffusers' train_instruct_pix2pix, and ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.pix2pix.checkpoints import LATEST, NONE

LAYERS = "to_q,to_k,to_v,to_out.0"  # that diffusers' LoRA programs train
SCHEDULES = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial"),
    *("constant", "constant_with_warmup"),
)


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Make the parser, a group of flags after the other."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_data(parser.add_argument_group("what is learned"))
    _add_learning(parser.add_argument_group("how"))
    _add_run(parser.add_argument_group("the run"))
    _add_validation(parser.add_argument_group("sample grids"))
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--pretrained_model_name_or_path",
        required=True,
        help="diffusers folder, registered name or hub_id@revision of an InstructPix2Pix or a "
        "Stable Diffusion 1.x, whose UNet is widened with zeros",
    )
    add(
        "--train_data",
        action="append",
        required=True,
        help="output of `rayedit triplets`, or a manifest with sources, instructions and targets; "
        "may be given several times",
    )
    add("--original_image_column", help="default: any name that manifests know")
    add("--edit_prompt_column", help="default: any name that manifests know")
    add("--edited_image_column", help="default: any name of a known data set")
    add("--max_train_samples", type=int, help="the first of the triplets alone")
    add("--output_dir", type=Path, required=True)
    add("--resolution", type=int, help="px a side, of squares; default: the model's own")


def _add_learning(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--train_batch_size", type=int, default=16, help="triplets a worker computes at a time")
    add("--gradient_accumulation_steps", type=int, default=1)
    add("--num_train_epochs", type=int, default=100)
    add("--max_train_steps", type=int, help="in place of --num_train_epochs")
    add("--learning_rate", type=float, default=1e-4)
    add("--lr_scheduler", choices=SCHEDULES, default="constant")
    add("--lr_warmup_steps", type=int, default=500)
    add(
        "--conditioning_dropout_prob",
        type=float,
        default=0.05,
        help="share of triplets without instruction, without source, and without both, each",
    )
    add("--use_ema", action="store_true", help="write the moving average of the weights")
    add("--max_grad_norm", type=float, default=1.0)
    add("--mixed_precision", choices=("no", "fp16", "bf16"), default="no")
    add("--gradient_checkpointing", action="store_true", help="less memory, more time")
    add("--rank", type=int, help="train a LoRA of this rank of the UNet, and nothing else")
    add("--lora_layers", default=LAYERS, help="ends of the names of its layers, with commas")
    add(
        "--train_text_encoder_layers",
        type=int,
        default=0,
        help="so many last layers of the text encoder learn too: for words that it does not know",
    )
    add(
        "--last_timestep_share",
        type=float,
        default=0.0,
        help="share of triplets at the last noise level, where every edit begins; the others have "
        "any; for models of zero terminal SNR, such as pocket",
    )


def _add_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--seed", type=int, default=0)
    add("--checkpointing_steps", type=int, default=500)
    add("--checkpoints_total_limit", type=int, help="the newest so many stay; default: all")
    add(
        "--resume_from_checkpoint",
        default=LATEST,
        help=f"{LATEST} of --output_dir, where there is one; checkpoint-500; or {NONE}",
    )
    add("--logging_steps", type=int, default=10, help="a line of log.jsonl every so many")
    add("--num_workers", type=int, default=1, help="of Ray Train; 0: this process alone")
    add("--max_failures", type=int, default=3, help="so often lost workers are replaced")
    add("--num_threads", type=int, help="of a worker on a CPU; default: Ray's, 1")
    add("--address", help="Ray cluster; default: RAY_ADDRESS, or one of its own")
    add("--device", choices=("cpu", "cuda"), help="default: cuda where this machine has it")


def _add_validation(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--validation_steps", type=int, help="a grid every so many; default: at checkpoints")
    add("--num_validation_images", type=int, default=4, help="triplets that a grid shows; 0: none")
    add("--validation_prompt", help="one instruction for all of them, in place of their own")
    add("--validation_num_inference_steps", type=int, default=20)
    add("--validation_guidance_scale", type=float, default=7.5)
    add("--validation_image_guidance_scale", type=float, default=1.5)


def check(options: argparse.Namespace) -> None:
    """Ends the program where two options do not go together, or a number is out of its bounds."""
    least = {
        "train_batch_size": 1, "gradient_accumulation_steps": 1, "num_train_epochs": 1,
        "max_train_steps": 1, "checkpointing_steps": 1, "logging_steps": 1, "validation_steps": 1,
        "rank": 1, "num_workers": 0, "train_text_encoder_layers": 0, "max_train_samples": 1,
        "checkpoints_total_limit": 1, "num_threads": 1, "num_validation_images": 0,
    }  # fmt: skip
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise SystemExit(f"--{name} {value}: at least {bound}")
    for name, most in {"conditioning_dropout_prob": 1 / 3, "last_timestep_share": 1.0}.items():
        if not 0 <= getattr(options, name) <= most:
            raise SystemExit(f"--{name} {getattr(options, name):g}: 0 to {most:g}")
    if options.rank and options.train_text_encoder_layers:
        raise SystemExit(
            "--rank trains a LoRA of the UNet alone: leave out --train_text_encoder_layers"
        )
    if options.mixed_precision == "fp16" and options.device == "cpu":
        raise SystemExit("--mixed_precision fp16 needs a GPU: on a CPU bf16 or no")
