"""`moeaudit lab list`: arms, mechanisms, and what the pool's folder holds."""

from __future__ import annotations

from ..terminal.document import Json, document
from ..terminal.examples import examples
from .pool import Folder, models_table


@examples("moeaudit lab list", "moeaudit lab list --folder pool --json")
def list_lab(folder: Folder = None, json: Json = False) -> None:
    """List the arms that can be trained, the mechanisms of recipes, and the finished models of a pool."""
    from moeaudit.lab.pools import default_folder
    from moeaudit.lab.pools.found import models_in
    from moeaudit.lab.recipes import ARMS
    from moeaudit.lab.training.mechanism import MECHANISMS, available

    from ..terminal.console import console, say

    place = folder or default_folder()
    arms = [{"name": name, "says": arm.says, "lacks": arm.lacks} for name, arm in ARMS.items()]
    mechanisms = [{"name": name, "available": available(name)} for name in MECHANISMS]
    found = models_in(place)
    if json:
        document("lab list", arms=arms, mechanisms=mechanisms, folder=place, models=found)
        return
    shown = console()
    wide = max(len(each["name"]) for each in arms)
    for each in arms:
        lacks = f" (not in this version: {each['lacks']})" if each["lacks"] else ""
        say(shown, f"{each['name']:<{wide}}  {each['says']}{lacks}")
    here = [each["name"] for each in mechanisms if each["available"]]
    say(shown, f"\nMechanisms of a recipe: {', '.join(here) or 'none in this version'}")
    if len(found):
        shown.print(models_table(found))
    say(shown, f"{len(found)} finished models in {place}")
