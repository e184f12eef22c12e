"""Whether memory holds the pictures of a study, known before any is read."""

from zostudy import registry
from zostudy.config.loading import StudyFile
from zostudy.config.settings import DatasetSettings
from zostudy.study import points
from zostudy.study.identity.data import places_of


def check_data(file: StudyFile) -> None:
    """Look at the outline of every data set that a study uses, as far as its files are here.

    torch is imported only where there is one to be looked at.

    Args:
        file: The study.

    Raises:
        InputError: A data set cannot be used, or memory cannot hold it.
    """
    used = points.alternatives(file, points.first(file).values, ("dataset",))
    extensions = file.config.extensions
    for settings in {config.dataset.model_dump_json(): config.dataset for config in used}.values():
        if _can_be_outlined(settings, extensions):
            from zostudy.data.dataset import outline

            outline(settings, extensions)


def _can_be_outlined(settings: DatasetSettings, extensions: tuple[str, ...]) -> bool:
    component = registry.find("dataset", settings.name, "dataset.name", extensions)
    places = places_of(settings, extensions)
    return "outline" in component.facts and (
        places is None or any(place.exists() for place in places)
    )
