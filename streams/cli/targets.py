"""Commands about targets: check a file, apply it, and show how far metrics are from them."""

import time
from pathlib import Path
from typing import Annotated

import typer

from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.printing import say, titled
from touchstream.streams.cli.queries import Format, opened, print_query, show
from touchstream.streams.errors import EXIT_CONFIGURATION, ConfigurationError
from touchstream.streams.settings import Settings, load_settings
from touchstream.streams.targets import Target, apply_targets, parse_targets

File = Annotated[Path, typer.Argument(metavar="FILE", help="Targets, TOML.")]
COLUMNS = ("target", "metric", "window", "of", "should be", "tolerance", "minimum n", "weight")
_GAPS = """SELECT target_id, metric, window, dimension, member, n, value, low, high, target, gap,
    status, attainment, weight, unit
FROM experience_gap ORDER BY target_id"""
_INDEX = "SELECT experience_index, targets, judged FROM experience_index"


def targets_check_command(file: File) -> None:
    """Check a file of targets and say what it holds; changes nothing.

    Examples:

      touchstream targets check targets.toml
    """
    with one_line_errors(EXIT_CONFIGURATION):
        targets = _read(file, load_settings())
        show(titled(f"{file}: right"), COLUMNS, [_line(each) for each in targets])


def targets_apply_command(file: File) -> None:
    """Make a file of targets hold; targets that it does not have are gone.

    Examples:

      touchstream targets apply targets.toml
    """
    with one_line_errors(EXIT_CONFIGURATION):
        settings = load_settings()
        targets = _read(file, settings)
        with opened(settings) as client:
            changes = apply_targets(client, targets, int(time.time() * 1000))
        for done, names in (
            ("added", changes.added),
            ("changed", changes.changed),
            ("removed", changes.removed),
        ):
            for name in names:
                say(f"{done} {name}")
        say(f"{len(targets)} targets hold, {len(changes.unchanged)} of them as before")


def targets_show_command(
    output: Annotated[Format, typer.Option("--format", help="How to print them.")] = "table",
) -> None:
    """Show every target with its metric of now, the gap and the status.

    Examples:

      touchstream targets show

      touchstream targets show --format csv
    """
    with one_line_errors(), opened(load_settings()) as client:
        print_query(client, _GAPS, {}, output)
        if output == "table":
            index, targets, judged = client.query(_INDEX).result_rows[0]
            said = "none" if index is None else f"{index:.1f} of 100"
            say(f"experience index: {said}, from {judged} of {targets} targets")


def _read(file: Path, settings: Settings) -> list[Target]:
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8") from None
    return parse_targets(text, str(file), load_catalogue(settings.metrics_file))


def _line(target: Target) -> tuple[object, ...]:
    sign = "at least" if target.direction == "up" else "at most"
    place = target.member and f"{target.dimension} {target.member}"
    wanted = f"{sign} {target.target:g}"
    numbers = (target.tolerance, target.minimum_n, target.weight)
    return (target.target_id, target.metric, target.window, place, wanted, *numbers)
