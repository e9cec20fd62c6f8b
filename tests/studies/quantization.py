"""A study: what training with quantized weights wins over rounding a trained student.

    python -m tests.studies.quantization --output FOLDER [--part digits|language]

Digits (scikit-learn's images): a small convolutional student is distilled in full precision and
then rounded (post-training quantization), trained with quantized weights on a teacher or on the
labels alone, from the same first weights, and trained with learned points.

Language: ten of the thirty layers of SmolLM2-135M-Instruct are distilled in full precision first,
once. From there a student goes on in full precision, and another with quantized weights, on the
same blocks in the same order and for the same number of steps; seeds change the order. Rounding
the student before and the one that went on tells what quantization costs without training for it.

Rounding and training use the same quantizer on the same layers: all but the first and the last of
the language model, and all of the small network. All figures are of held-out images and text.
Results are kept in the folder, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import torch

from tests.studies import quantization_digits, quantization_language
from tests.studies.kept_results import KeptResults

PARTS = {"digits": quantization_digits, "language": quantization_language}


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("study_quantization"))
    parser.add_argument("--part", choices=list(PARTS), default=None)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in [options.part] if options.part else list(PARTS):
        results = KeptResults(options.output / f"{name}.json", {})
        PARTS[name].run(results.get_or_compute, options.output, options.seeds)
        text = PARTS[name].table(results)
        (options.output / f"{name}.md").write_text(text + "\n", encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
