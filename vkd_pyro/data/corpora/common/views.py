"""The view of an X-ray, from what a corpus, a DICOM header or a person calls it."""

import re
import unicodedata

from vkd_pyro.data.study import View

FRONTAL = {
    *("AP", "PA", "F", "FRONT", "FRONTAL", "ANTERIOR", "POSTERIOR", "ANTERO", "POSTERO", "DORSOVENTRAL", "FRENTE"),
    *("ANTEROPOSTERIOR", "POSTEROANTERIOR", "ANTERIORPOSTERIOR", "POSTERIORANTERIOR"),
}
LATERAL = {"L", "LL", "RL", "LAT", "LLAT", "RLAT", "LATERAL", "LATERALE", "SIDE", "PROFILE", "PROFIL", "PERFIL"}
"""Words of which one says the view: DICOM's codes and their meanings, PadChest's L, and what people write."""
SIDES = {"R", "LEFT", "RIGHT", "LT", "RT"}
"""Words that say no more than the side, as in "left lateral"."""
MANNERS = {
    *("AND", "OR", "VIEW", "VIEWS", "PROJECTION", "POSITION", "CHEST", "THORAX", "CXR", "XR", "XRAY", "X", "RAY"),
    *("RADIOGRAPH", "IMAGE", "SINGLE", "STANDARD", "ERECT", "UPRIGHT", "STANDING", "SITTING", "SEATED", "SEMI"),
    *("SEMIERECT", "SEMIUPRIGHT", "SUPINE", "PRONE", "RECUMBENT", "LYING", "HORIZONTAL", "VERTICAL", "PORTABLE"),
    *("MOBILE", "BEDSIDE", "STATIC", "STRETCHER", "ICU", "INSPIRATION", "EXPIRATION", "INSPIRATORY", "EXPIRATORY"),
    *("XTABLE", "CROSSTABLE", "CROSS", "TABLE", "PEDIATRIC", "PAEDIATRIC", "ADULT"),
}
"""Words that leave the view as it is. What is not listed (decubitus, oblique, lordotic, swimmer's) makes it unknown."""


def view_of(position: str) -> View:
    """Frontal: "AP", "postero-anterior", "AP_horizontal"; lateral: "LL", "L", "Left lateral"; in any case, whatever
    stands between the words.

    Blank, both at once, a decubitus or oblique view (LLD, RAO) and whatever has another word in it is unknown.
    """
    words = set(_words(position))
    frontal, lateral = words & FRONTAL, words & LATERAL
    if words - FRONTAL - LATERAL - SIDES - MANNERS or bool(frontal) == bool(lateral):
        return "unknown"
    return "frontal" if frontal else "lateral"


def _words(position: str) -> list[str]:
    """Its words in capitals; "P.A." and "P-A" are PA, as is the "paView" of programs."""
    text = unicodedata.normalize("NFKC", position)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text).upper().replace("'", "")
    text = " ".join(re.sub(r"[\W_\d]+", " ", text).split())
    return re.sub(r"\b(A) (P)\b|\b(P) (A)\b", lambda found: "".join(filter(None, found.groups())), text).split()
