"""Which files of the input are lost: what is wrong with them lies in their bytes, and their entity is known.

An entity is known where all its columns stand beside the file, in the names of its folders or in its table. All else
that cannot be read ends the run: nobody could say whose rows would be missing.
"""

from __future__ import annotations

from cluster.core.plan.inventory import LostFile
from cluster.core.plan.partitions import Partitions
from cluster.core.settings import InputSettings
from cluster.run_errors import InputBroken, InputDamaged


def lost_file(path: str, broken: InputBroken, settings: InputSettings, partitions: Partitions) -> LostFile | None:
    """What is known of a file that was found broken; None where that is to end the run."""
    if settings.bad_entity == "fail" or not isinstance(broken, InputDamaged):
        return None
    named = partitions.values(path)
    values = [named[name] for name in settings.entity if name in named and named[name].is_valid]
    if len(values) < len(settings.entity):
        return None
    return LostFile(path, tuple(values), str(broken), broken.what)
