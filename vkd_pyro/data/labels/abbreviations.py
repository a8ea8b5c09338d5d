"""How words of a report may be written other than in full and rightly: the tables of `spelling`."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ABBREVIATIONS: dict[str, str] = {
    # findings
    "pna": "pneumonia",
    "pnas": "pneumonia",
    "bronchopna": "pneumonia",
    "ptx": "pneumothorax",
    "ptxs": "pneumothorax",
    "pntx": "pneumothorax",
    "pnx": "pneumothorax",
    "ptx's": "pneumothorax",
    "pneumo": "pneumothorax",
    "hydroptx": "hydropneumothorax",
    "hemoptx": "hemopneumothorax",
    "eff": "effusion",
    "effs": "effusions",
    "effn": "effusion",
    "effns": "effusions",
    "effus": "effusion",
    "ple": "pleural effusion",
    "ples": "pleural effusions",
    "opac": "opacity",
    "opacs": "opacities",
    "opacif": "opacification",
    "ggo": "ground glass opacity",
    "ggos": "ground glass opacities",
    "infil": "infiltrate",
    "infils": "infiltrates",
    "infilt": "infiltrate",
    "infilts": "infiltrates",
    "atx": "atelectasis",
    "atel": "atelectasis",
    "atelect": "atelectasis",
    "atelec": "atelectasis",
    "cmg": "cardiomegaly",
    "cmegaly": "cardiomegaly",
    "cardiomeg": "cardiomegaly",
    "cardmeg": "cardiomegaly",
    "consol": "consolidation",
    "consols": "consolidations",
    "consolid": "consolidation",
    "edem": "edema",
    "oedem": "edema",
    "chf": "chf",
    "hf": "heart failure",
    "fx": "fracture",
    "fxs": "fractures",
    "fxr": "fracture",
    "frx": "fracture",
    "fract": "fracture",
    "nod": "nodule",
    "nods": "nodules",
    "mets": "metastases",
    "thickng": "thickening",
    "plural": "pleural",
    "plueral": "pleural",
    # organs and places
    "pl": "pleural",
    "pleur": "pleural",
    "pulm": "pulmonary",
    "mediast": "mediastinum",
    "interst": "interstitial",
    "vasc": "vascular",
    "bilat": "bilateral",
    "bil": "bilateral",
    "bibas": "bibasilar",
    "b/l": "bilateral",
    "l": "left",
    "lt": "left",
    "r": "right",
    "rt": "right",
    "cpa": "costophrenic angle",
    "cardiomed": "cardiomediastinal",
    "silh": "silhouette",
    # devices
    "lvad": "lvad",
    "cvl": "central line",
    "cvc": "central venous catheter",
    "tlc": "central venous catheter",
    "ogt": "og tube",
    "ngt": "ng tube",
    "dht": "dobbhoff tube",
    "ppm": "pacemaker",
    "trach": "tracheostomy",
    "cath": "catheter",
    "caths": "catheters",
    "permcath": "dialysis catheter",
    # what is said of them
    "w/o": "without",
    "w/": "with",
    "c/w": "consistent with",
    "c/f": "concerning for",
    "s/o": "suggestive of",
    "e/o": "evidence of",
    "r/o": "rule out",
    "ro": "rule out",
    "s/p": "status post",
    "h/o": "history of",
    "hx": "history of",
    "f/u": "follow up",
    "d/t": "due to",
    "o/w": "otherwise",
    "d/c": "removed",
    "d/c'd": "removed",
    "dc'd": "removed",
    "wo": "without",
    "eval": "evaluate",
    "excl": "excluded",
    "hrt": "heart",
    "neg": "negative",
    "pos": "positive",
    "nl": "normal",
    "nml": "normal",
    "norm": "normal",
    "wnl": "within normal limits",
    "unrem": "unremarkable",
    "unremark": "unremarkable",
    "cl": "clear",
    "clr": "clear",
    "enl": "enlarged",
    "enlgd": "enlarged",
    "sm": "small",
    "sml": "small",
    "mod": "moderate",
    "min": "minimal",
    "lg": "large",
    "poss": "possible",
    "prob": "probable",
    "susp": "suspected",
    "ques": "question",
    "unch": "unchanged",
    "unchgd": "unchanged",
    "stbl": "stable",
    "incr": "increased",
    "inc": "increased",
    "decr": "decreased",
    "dec": "decreased",
    "resp": "respiratory",
    "sig": "significant",
    "signif": "significant",
    "abn": "abnormality",
    "abnl": "abnormal",
    "evid": "evidence",
    "prev": "previous",
    "can't": "cannot",
    "couldn't": "could not",
    "isn't": "is not",
    "aren't": "are not",
    "wasn't": "was not",
    "weren't": "were not",
    "doesn't": "does not",
    "don't": "do not",
    "didn't": "did not",
    "hasn't": "has not",
    "haven't": "have not",
    "versus": "versus",
    "vs": "versus",
    "vs.": "versus",
    "v": "versus",
}
"""Word -> what it stands for in a chest X-ray's report."""

TERMS: frozenset[str] = _words(
    """
    pneumothorax pneumothoraces hydropneumothorax pneumonia pneumonias effusion effusions consolidation consolidations
    consolidative
    atelectasis atelectases atelectatic cardiomegaly edema oedema opacity opacities opacification infiltrate
    infiltrates infiltration airspace interstitial reticular nodule nodules nodular lesion lesions malignancy metastases
    metastatic congestion vascular engorgement cephalization pneumonic infection pneumonitis collapse collapsed pleural
    thickening plaque plaques fracture fractures fractured mediastinal mediastinum cardiomediastinal widening widened
    empyema hemothorax hydrothorax hemopneumothorax absence versus clear angles
    cardiac silhouette enlarged enlargement heart lungs pulmonary vasculature costophrenic unremarkable normal
    catheter catheters endotracheal nasogastric tracheostomy pacemaker defibrillator
    without evidence possible possibly probable probably likely unlikely cannot exclude excluded suspected suspicious
    questionable resolved resolution cleared unchanged stable removed negative absent present concerning represent
    bilateral bibasilar moderate minimal persistent
    """
)
"""Words that misspellings are mended to."""

RIGHT_WORDS: frozenset[str] = _words(
    """
    angled ankles clean cleat learn tangles verses
    absence absents aerospace airspaces airways assent atelectases bilateral bilaterally cannon cannot cardia cardial
    cardigan cardinal cleaned clearer clears cleaved collages collapses collapsing collared collated concealing
    conceding conception concerned concerns concession concurring confection confession confusion congesting congestive
    congregation connection consolation consolidate consolidates consolidating convection convention converging
    diffusion edematous effluent effusive elusion eminence emphysema empyemas endorsement enema enforcement engagement
    engorged engraved enlarge enlargements enlarges enlarging evidenced evidences evident evolution exceeded excluder
    excludes excluding exclusion exclusions extruded extrusion extrusions extubation factored facture featured features
    fractal fraction fractional fractions fracturing heard hearth hearts hearty hemithoraces hemithorax inaction
    inception incision induction inertion infarct infarction infected infecting infections infective infiltrated
    infiltrating infiltrative inflation infliction infraction infusion ingestion injection insertion inspection
    intention interspace interspaces interspatial interstices interstitially interstitium intubation invention lavage
    legion legions lesional lingual longs lunge lunged malignancies malignant malignantly mediastinoscopy mediastinum
    metabolic metaphysis minima moderated moderator modular modulate module modules nasal negation negatively nodulate
    normalcy normals notable obviate opacifications opacified opacify opacifying pacemakers perceived perfusion
    persistence persistently persisting persists plague plagued pneumatic pneumatocele pneumonectomy pneumonitic
    pneumothorax portable portably possess precent presence presented presently presents preserved preset prevent
    prevents probe pulmonology questionably recessed reflected remove remover removes represented representing
    represents resent reserved resolution resolve resolver resolves resolving resorption reticula reticulate reticulum
    revolution revolver sable silhouettes stabile stables stably stale staple stapled stapler staples suitable suspect
    suspects suspended suspicion suspiciously table tables tablet thicken thickened thickens thinking trachea tracheal
    tracheostomies tracheotomy transfusion tubular unchange unquestionable unremarkably unsuspected valvular
    vascularity vascularly vasculatures ventricular vesicular visceral watchout whitening wideness widest
    """
)
"""Right words as near to a term as a misspelling: found in two word lists of English and in Open-I."""
