"""What `touchstream metrics` is asked for: checked against the catalogue, and put as a query."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from touchstream.streams.catalogue import ALL, Catalogue
from touchstream.streams.definitions import NOW, dimensions_of, has_window, windows_of
from touchstream.streams.errors import ConfigurationError

USUAL_WINDOWS = ("24h", NOW)


@dataclass(frozen=True)
class MetricsAsked:
    """Options of the command, empty when they were not given."""

    catalogue: Catalogue
    metric: str
    window: str
    dimension: str
    channel: str

    def __post_init__(self) -> None:
        """Raises ConfigurationError for what is not in the catalogue, or not to be had together."""
        catalogue = self.catalogue
        windows = [*catalogue.windows, ALL, NOW]
        dimensions = [ALL, *catalogue.dimensions]
        if self.metric and self.metric not in catalogue.metrics:
            raise ConfigurationError(_unknown("metric", self.metric, catalogue.metrics))
        if self.window and self.window not in windows:
            raise ConfigurationError(_unknown("window", self.window, windows))
        if self.dimension and self.dimension not in dimensions:
            raise ConfigurationError(_unknown("dimension", self.dimension, dimensions))
        if self.channel and self.dimension not in ("", "channel"):
            raise ConfigurationError("--channel does not go with another --dimension")
        if self.metric:
            self._check_metric()
        if self.window and not has_window(catalogue, self.window, self._dimension):
            raise ConfigurationError(f"by {self._dimension} there are windows from 24h on")

    def _check_metric(self) -> None:
        metric = self.catalogue.metrics[self.metric]
        windows, dimensions = (
            windows_of(self.catalogue, metric),
            dimensions_of(self.catalogue, metric),
        )
        if self.window and self.window not in windows:
            raise ConfigurationError(
                f"{self.metric} has no window {self.window}: choose {_listed(windows)}"
            )
        if self._dimension not in dimensions:
            raise ConfigurationError(
                f"{self.metric} is not given by {self._dimension}: choose {_listed(dimensions)}"
            )

    @property
    def _dimension(self) -> str:
        return "channel" if self.channel else self.dimension or ALL

    @property
    def _windows(self) -> list[str]:
        """Windows that are looked at, the shortest first."""
        if self.window:
            return [self.window]
        if self.metric:
            return windows_of(self.catalogue, self.catalogue.metrics[self.metric])
        return list(USUAL_WINDOWS)

    @property
    def title(self) -> str:
        """Say what is shown."""
        by = "all channels" if self._dimension == ALL else f"by {self._dimension}"
        return f"{self.channel or by}, {', '.join(self._windows)}"

    @property
    def nothing(self) -> str:
        """Say that there is nothing to show."""
        of = f"of channel {self.channel}" if self.channel else f"by {self._dimension}"
        return f"no measurements {of} in this window"

    @property
    def parameters(self) -> dict[str, object]:
        """Parameters of the query."""
        return {
            "metric": self.metric,
            "windows": self._windows,
            "dimension": self._dimension,
            "channel": self.channel,
        }

    def sql(self, moment: datetime) -> str:
        """Query for the columns that differ between lines, and the values."""
        columns = ["family", "metric"]
        columns += ["window"] if len(self._windows) > 1 else []
        columns += ["member"] if self._dimension != ALL and not self.channel else []
        columns += ["n", "value", "low", "high", "unit"]
        return (
            f"SELECT {', '.join(columns)}"
            f" FROM metrics_at(as_of = '{moment:%Y-%m-%d %H:%M:%S.%f}')"
            " WHERE dimension = {dimension:String} AND window IN {windows:Array(String)}"
            " AND ({metric:String} = '' OR metric = {metric:String})"
            " AND ({channel:String} = '' OR member = {channel:String})"
            " ORDER BY family, metric, member, indexOf({windows:Array(String)}, window)"
        )


def _unknown(what: str, given: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(given, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose {_listed(names)}"
    return f"no {what} {given}: {hint}"


def _listed(names: Iterable[str]) -> str:
    return "one of " + ", ".join(names)
