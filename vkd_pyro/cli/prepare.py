"""`vkd prepare`."""

from pathlib import Path

from jsonargparse import ArgumentParser

from vkd_pyro.cli.settings import add_data, new_parser, parse, with_parts_of_config


def prepare_parser() -> ArgumentParser:
    """Arguments of `vkd prepare`."""
    from vkd_pyro.encoders.report import ReportEncoder

    parser = new_parser(
        "prepare",
        "Writes a store: images resized, what the report encoder computes before training, labels. Train from it with "
        "the same config and --data.loading.store. Interrupted, the same command goes on. Without a report encoder in "
        "config or as --model.report_encoder, no report is prepared.",
    )
    parser.add_argument("--config", action="config", help="the config that will be trained")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    add_data(parser)
    parser.add_subclass_arguments(ReportEncoder, "model.report_encoder", required=False)
    return parser


def main(arguments: list[str]) -> None:
    """`vkd prepare`."""
    from vkd_pyro.data.store import prepare
    from vkd_pyro.training.settings import Training

    parser = prepare_parser()
    settings = parse(parser, with_parts_of_config(arguments, "data", "model.report_encoder"))
    settings.data.store = None  # of the config: where training will read, not what is read now
    parts = parser.instantiate(settings)
    encoder = parts.get("model.report_encoder")
    if encoder is not None:
        encoder.to(Training().device)
    counts = prepare(parts.data.selection, encoder, settings.output, parts.data.bad_images)
    print(f"prepared: {settings.output}: {', '.join(f'{counts[n]:,} {n}' for n in ('studies', 'images', 'reports'))}")
    for reason, count in counts["left_out"].items():
        print(f"  left out {count:>8,} {reason}")
    print(f"next: vkd train with the same config and --data.loading.store {settings.output}")
