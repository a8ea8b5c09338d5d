"""Words that tell how far what is said goes: what joins the names of a list, and what a name has of its own."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ANSWERS = _words("none no yes negative positive present absent possible nil resolved unlikely")
"""What answers a question that names a finding: "Pneumothorax? None."""

DEVICE_DENIALS = _words("no without absence lack negative none neither nor")
"""First words of the denials that hold for devices too: a tip that is not seen is not absent."""

NEITHER = _words("or nor / versus")
"""Between the names of a list these go on with whatever was said of the first."""

LISTED = _words(", and & +")
"""These go on with a list, or begin a clause."""

OWN = _words(
    """
    a an the this these those there his her its
    small tiny trace mild mildly moderate moderately severe severely large minimal minor slight slightly subtle
    borderline massive extensive marked huge multiple several
    stable unchanged persistent persisting worsening worsened worse improved improving increased increasing decreased
    decreasing residual chronic old healed healing known again new recurrent enlarging resolving mild-to-moderate
    similar larger smaller continued ongoing progressive unresolved previously
    left right bilateral bibasilar bibasal biapical basilar basal apical upper lower middle mid lingular retrocardiac
    perihilar one-sided unilateral lobe lobar rll lll rul lul rml base bases
    also only just still mildly-increased both some patchy streaky hazy linear layering
    """
)
"""What is said of one name of a list alone: with it, what was denied before goes on no further."""

PREDICATE = (
    r"(?:is|are|was|were|has|have|had|remains?|persists?|persisted|appears?|seems?|continues?|shows?|noted|seen|"
    r"present|"
    r"unchanged|stable|again|improv\w+|increas\w+|decreas\w+|worse\w*|larger|smaller|in place|in situ|in good|"
    r"in standard|"
    r"in satisfactory|in unchanged|in stable|cannot|could|can|may|might|resolved|cleared|gone|at the|at|on the|"
    r"on|in the|"
    r"along|over|overlying|within|of the|tip|terminat\w+|ends?|projects?|as before|possible|likely|unlikely|suspected|"
    r"measur\w+|developed|should|must|would|similar|bilaterally|posteriorly|to be|:)\b"
)
"""What begins what is said of a name that begins a clause."""

EXISTS = (
    r"(?:(?:is|are|was|were|can be|be) )?(?:seen|identified|present|noted|visuali[sz]ed|evident|appreciated|"
    r"demonstrated|"
    r"detected|found|observed|suspected|apparent|visible)\b"
)
"""Said of a whole list as well as of its last name."""

VERBS = _words(
    "is are was were has have had remains remain persists persist appears appear seems continues shows show there "
    "unchanged stable again noted seen present"
)
"""Between two names these show that the first has been spoken of."""

ADJECTIVES = OWN | _words("acute subacute early late rib ribs displaced nondisplaced and & + or nor / ,")
"""These and what joins them may stand between a cue and the one name that it is of."""

PLACES = _words("lobe lobar rll lll rul lul rml base bases")
"""Among those of `OWN` what is a noun: a list of adjectives does not go on after it."""

THEN = _words("prior previous earlier before last old comparison yesterday xxxx")
"""After "versus": what is compared is the time, not the finding."""

DEGREES = _words(
    "acute displaced focal large new definite significant overt gross obvious discrete suspicious "
    "recent confluent lobar "
    "dense active frank pleural pulmonary visible sizable sizeable convincing dominant clear nondisplaced healing"
)
"""Between "no" and a comma these are said of the name after it: no acute, displaced fracture."""

PARTS = _words("beyond below past above tip tips end ends side sidehole distal course portion")
"""Parts of a device: where one of them is not seen, the device is there."""

SEEN = _words("seen identified present noted visualized visualised evident appreciated demonstrated detected found")

SINGULAR = _words("is was has")

PLURAL = _words("are were have")

ENDS = _words(
    """
    , and & + or nor / versus in at on given based than ? by as : clinically bilaterally here because with
    again now over
    """
)
"""What may follow "likely" or "possible" where it is said of what stands before it."""

POINTING = _words(
    """
    this these those that which it they both all has have had is are was were since now none neither been be not no
    longer the and completely fully entirely subsequently interval in on today current study exam film seen also again
    , : -- ; ( ) but which however also definitely clearly still at time prior previously
    previous described above reported noted xxxx dated one a tiny small
    """
)
"""Where nothing but these stands before a cue, it is said of what was named in the clause before."""
