"""Answers to questions about several findings, as lines and as a file beside the predictions."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vkd_pyro.prediction.files import Predicted
from vkd_pyro.prediction.tables import as_text
from vkd_pyro.utils.files import written

COLUMNS = ("image", "image_sha256", "images", "query", "probability", "standard_error", "product_of_marginals")


def queries_file(output: Path) -> Path:
    """Beside the predictions, where the answers to questions are."""
    return output.with_name(f"{output.name}.queries.csv")


def lines_of(one: Predicted) -> list[str]:
    """A line a question: its probability with the standard error over draws of z, beside the product of marginals."""
    return [
        f"  P({answer.query}) = {answer.probability[0]:.4f} (standard error over draws {answer.standard_error[0]:.4f}; "
        f"product of the marginals {answer.product[0]:.4f})"
        for answer in one.queries
    ]


@contextmanager
def answers_file(path: Path) -> Iterator[Callable[[Predicted], None]]:
    """Writes a row a study (or image) and question, as CSV; whole or, after an error, not at all."""
    with written(path, replace=False) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)

        def write(one: Predicted) -> None:
            image = (as_text(one.image), one.image_sha256, len(one.images))
            for answer in one.queries:
                numbers = (answer.probability[0], answer.standard_error[0], answer.product[0])
                table.writerow([*image, answer.query, *("" if x != x else f"{x:.6g}" for x in numbers)])

        yield write
