"""Ask one version about checked rows, and what a door is given to write down. Used by the data plane, the batcher and the self-test."""

from dataclasses import dataclass

from zebra_assets.errors import ZebraError
from zebra_serving.problems import InputInvalid, ModelFailed
from zebra_serving.rows import Rows
from zebra_serving.served import Scored, Served


@dataclass(frozen=True, slots=True)
class Answer:
    """What a door writes down. ``event_ids[i]`` is None where row i was not captured; None where no row was."""

    served: Served
    scored: Scored
    event_ids: list[str | None] | None


def predict(served: Served, rows: Rows) -> Scored:
    """The version's answers to rows that fit its columns; also what the loader's self-test calls.

    Raises:
        InputInvalid: the model knows the columns but refuses the values, such as a category it never saw.
        ModelFailed: anything else went wrong inside.
    """
    try:
        return served.model.predict(rows)
    except ZebraError:
        raise
    except ValueError as error:
        raise InputInvalid([], message=f"The model refuses these values: {str(error).splitlines()[0]}") from error
    except Exception as error:
        raise ModelFailed(
            f"Version {served.promotion.version} failed on these rows: {type(error).__name__}.", fix="see the server's log; mlops rollback"
        ) from error
