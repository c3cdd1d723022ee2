"""Every setting of a training by its name: what kind of value it is, what it means, and its default.

A setting is the same word as a flag (`--learning-rate`), a variable (`ISTHMUS_TRAIN_LEARNING_RATE`) and a key
of a TOML file (`learning_rate`). Which values make sense together is for the settings' own classes to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "whole", "number", "flag", "path", "list", "table"]


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: what kind of value, what it means, its default (None: unset), and the words it may be.

    Attributes:
        least: Of a number, or of each in a list.
        rows: Whether a list may hold rows of numbers.
        whole: Whether all numbers of a list are whole ones.
    """

    kind: Kind
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    rows: bool = False
    whole: bool = False


OPTIONS: Mapping[str, Option] = {
    # Data
    "dataset": Option("text", "Training images: digits, npz:FILE or folder:DIR."),
    "test": Option("text", "Images for the final figures; never trained on."),
    "size": Option("text", "Bring images to HEIGHTxWIDTH, cropped at the centre."),
    "validation": Option(
        "whole",
        "Training images held out, on which 'isthmus export' measures what policies read; if given, measured "
        "while training too [default: an eighth, at most 1000].",
        least=0,
    ),
    "validation_every": Option("whole", "Measure them every so many epochs; 0: never.", 1, least=0),
    # The network and where it is cut
    "model": Option("text", "Network to cut, or path/to/file.py:factory.", "digits-cnn"),
    "weights": Option("path", "Its weights; without, it is trained first."),
    "teacher_epochs": Option(
        "whole", "Passes for a network without --weights; 0: it comes trained.", 12, least=0
    ),
    "outputs": Option(
        "text",
        "Its outputs, if they are not the images' classes: their number, or a file of names "
        "(CSV: name,index); labels play no part then, unless the classes are among the names.",
    ),
    "mean": Option("list", "The network's, e.g. 0.485,0.456,0.406."),
    "std": Option("list", "Likewise."),
    "cut": Option("text", "Module whose output is the cut."),
    "plan": Option("path", "plan.json that names the cut."),
    "tune_tail": Option("flag", "Adapt the layers after the cut.", False),
    "keep_teacher": Option("flag", "Whether the uncut network's weights go into the checkpoint.", True),
    # The bottleneck
    "family": Option("text", "Kind of bottleneck."),
    "channels": Option("whole", "Latent channels.", least=1),
    "channel_counts": Option("list", "Prefixes offered, e.g. 2,4,8,16.", least=1, whole=True),
    "widths": Option("list", "Compute fractions, e.g. 0.25,0.5,0.75,1."),
    "encoder": Option(
        "text", "CHANNELSxBLOCKS per stage, e.g. 48x1,96x1, or auto: the network's own layers, thinned."
    ),
    "decoder": Option("text", "CHANNELSxBLOCKS of the server's decoder."),
    "exit_channels": Option("whole", "Of the early exit; 0: none.", least=0),
    "structure": Option("table", "The family's own settings, NAME=VALUE,NAME=VALUE."),
    "start": Option(
        "path", "First weights: teacher (its layers, copied and thinned), a checkpoint or a file of parts."
    ),
    "start_images": Option("whole", "With teacher: images by which its channels are sorted.", 128, least=32),
    "stem_steps": Option(
        "whole", "With teacher: steps in which new layers first learn what theirs give.", 0, least=0
    ),
    "start_rate": Option("number", "Their part of the learning rate.", 1.0, least=0),
    "start_delay": Option("number", "Share of the run in which they, and a tuned tail, rest.", 0.0, least=0),
    "start_ramp": Option("number", "Share of the run in which they then come up.", 0.0, least=0),
    "linear_start": Option(
        "whole", "Images on which projection and decoder are fitted by regression first; 0: none.", 0, least=0
    ),
    # The course
    "recipe": Option("text", "Named recipe, or a TOML file [default: by the images' shape]."),
    "epochs": Option("whole", "Passes over the training images.", least=1),
    "exit_epochs": Option("whole", "Passes for the early exit alone.", least=0),
    "batch_size": Option("whole", "Images per step.", least=2),
    "optimiser": Option("text", "Of the bottleneck.", "adamw", ("adamw", "adam", "sgd")),
    "learning_rate": Option("number", "Peak rate.", least=0),
    "answer_optimiser": Option("text", "Of stage 2, where it differs.", None, ("adamw", "adam", "sgd")),
    "answer_learning_rate": Option("number", "Peak rate of stage 2, where it differs.", least=0),
    "tail_learning_rate": Option("number", "With --tune-tail.", 3e-5, least=0),
    "weight_decay": Option("number", "On convolution and linear weights.", 1e-4, least=0),
    "answer_weight_decay": Option("number", "Of stage 2, where it differs.", least=0),
    "momentum": Option("number", "Of sgd.", 0.9, least=0),
    "clip": Option("number", "Largest norm of the gradient; 0: none.", 5.0, least=0),
    "warm_up": Option("number", "Share of the run in which the learning rate rises.", 0.02, least=0),
    "feature_share": Option("number", "Share of the run that imitates features only.", 0.5, least=0),
    "full_width_share": Option(
        "number", "Share of the run at full width only (delayed shrinking); 0: without.", 0.4, least=0
    ),
    "ramp_share": Option("number", "Share of the run in which narrower widths come in.", 0.0, least=0),
    "ramp_start": Option("number", "What they count at first.", 0.1, least=0),
    "decay": Option("text", "Of the learning rate.", "cosine", ("cosine", "steps", "constant")),
    "decay_steps": Option("list", "With steps: shares of the run (or stage) at which it falls.", least=0),
    "decay_factor": Option("number", "With steps: to what part.", 0.1, least=0),
    "restart": Option("flag", "Stage 2 has a learning rate course of its own.", False),
    "sandwich": Option("text", "Do the widths of a step share its batch?", "shares", ("shares", "whole")),
    "random_widths": Option("whole", "Widths per step beside the widest and narrowest.", 1, least=0),
    "width_shares": Option("list", "The widest's and the narrowest's part of a batch.", [0.4, 0.3], least=0),
    "average": Option("number", "Decay of an average of the weights; 0: none.", 0.0, least=0),
    # Losses
    "temperature": Option("number", "Softens the network's answers.", 2.0, least=0.1),
    "feature_weight": Option("number", "Of the network's features in stage 2.", 1.0, least=0),
    "feature_weight_end": Option("number", "What it falls to by the end [default: it stays].", least=0),
    "answer_weight": Option("number", "Of the network's answers.", 0.25, least=0),
    "label_weight": Option("number", "Of the labels; 0: they play no part.", 0.0, least=0),
    "feature_loss": Option(
        "text", "Squared error, relative (per channel) or summed.", "relative", ("relative", "channel", "sum")
    ),
    "answer_loss": Option("text", "How answers are compared.", "kl", ("kl", "alpha")),
    "prefix_power": Option(
        "number", "Answers from c of C channels count (c/C)^power; 0: all alike.", 0.0, least=0
    ),
    "levels": Option("whole", "Later levels that stage 1 imitates besides the cut.", 1, least=0),
    "level_weights": Option(
        "list", "Of the cut and each later level; the last for the rest [default: 1].", least=0
    ),
    "in_place": Option("flag", "Narrower widths imitate the full width's answers.", False),
    "freeze_encoder": Option("flag", "Stage 2 trains decoder and tail only.", False),
    # Rate, channels, quantisation
    "target_bytes": Option(
        "list",
        "Mean bytes of a whole latent to steer to: one, one per width, or rows as 60/120/200/300.",
        rows=True,
    ),
    "first_price": Option("number", "The price steering begins with, in loss per bit.", 1e-5, least=0),
    "rate_price": Option("list", "A fixed price instead: one, or one per width; 0: no rate term.", least=0),
    "price_speed": Option("number", "How fast prices follow the target, per step.", 0.02, least=0),
    "rate_prefix_power": Option(
        "number", "Bits of c of C channels count (C/c)^power; 0: all alike.", 0.0, least=0
    ),
    "quantisation": Option(
        "text", "What stands for rounding.", "round", ("round", "noise", "noise-round", "none")
    ),
    "nested_dropout": Option("flag", "Train prefixes of the channels.", True),
    "full_channels": Option("number", "Share of samples with all channels.", 0.5, least=0),
    "offered_channels": Option("number", "Share with an offered count; the rest any.", 0.25, least=0),
    "count_shares": Option("list", "Of the offered counts among themselves [default: equal].", least=0),
    "calibration": Option("text", "Whose statistics a width has.", "width", ("width", "widest")),
    # Augmentation
    "augment": Option(
        "text",
        "A usual one: shifts are up to an eighth of the image.",
        None,
        ("none", "shift", "shift-flip", "crop-flip"),
    ),
    "shift": Option("whole", "Random moves of up to so many pixels.", least=0),
    "flip": Option("flag", "Mirror half of the images."),
    "crop_scale": Option("number", "Least area of a random crop; 1: none.", least=0.01),
    "jitter": Option("number", "Of brightness, contrast, saturation.", least=0),
    "mixup": Option("number", "α of mixup; 0: none.", 0.0, least=0),
    "cutmix": Option("number", "α of CutMix; 0: none.", 0.0, least=0),
    "views": Option(
        "whole", "Augmented copies per image drawn once, the network's answers kept; 0: new ones.", 0, least=0
    ),
    "views_folder": Option("path", "Where they are kept, for runs that share them [default: in --out]."),
    # The machine and the run
    "precision": Option("text", "auto: bfloat16 where it is fast.", "auto", ("auto", "float32", "bfloat16")),
    "device": Option("text", "auto, cpu, cuda or cuda:N.", "auto"),
    "compile": Option("text", "torch.compile; auto: on a GPU.", "auto", ("auto", "on", "off")),
    "threads": Option("whole", "CPU threads; default: all.", least=1),
    "max_minutes": Option(
        "number", "End by then, annealed; no such run can be repeated exactly.", least=0.01
    ),
    "state_minutes": Option("number", "Keep a state so often within an epoch.", 10.0, least=0),
    "seed": Option("whole", "Of everything random.", 0),
}
