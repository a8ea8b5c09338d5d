"""The wordings of the reports; a table that is frozen, since results depend on its every word."""

Phrases = tuple[str, ...]

VIEWS: dict[str, Phrases] = {
    "PA": ("Chest radiograph, PA view.", "PA chest x-ray.", "Single frontal PA view of the chest."),
    "AP": ("Portable AP chest radiograph.", "Single portable AP view of the chest.", "AP chest, portable."),
}
EARLIER: Phrases = ("Prior chest radiograph.", "Radiograph from two days earlier.", "Previous study of last year.")
NO_EARLIER: Phrases = ("None.", "None available.", "No prior studies for comparison.")

REASONS: Phrases = (
    "with chest pain",
    "with shortness of breath",
    "for preoperative evaluation",
    "with cough",
    "with a history of pneumonia",
    "with a history of congestive heart failure",
    "with prior pneumothorax",
    "with known lung nodule on outside study",
    "after a fall, to evaluate for fracture",
    "to evaluate for pneumonia",
    "to rule out pleural effusion",
    "with dizziness, to exclude an acute process",
    "with remote rib fractures",
    "with weakness",
)
HINTS: dict[str, Phrases] = {
    "Cardiomegaly": ("with leg swelling", "with known cardiomyopathy"),
    "Edema": ("with worsening dyspnea and orthopnea", "with heart failure, evaluate for edema"),
    "Pneumonia": ("with fever and productive cough", "with leukocytosis, evaluate for pneumonia"),
    "Pneumothorax": ("after chest trauma", "after line placement, evaluate for pneumothorax"),
    "Fracture": ("after motor vehicle collision", "with rib pain after a fall"),
    "Lung Lesion": ("with weight loss", "with a history of malignancy"),
    "Support Devices": ("intubated, evaluate lines and tubes", "after surgery, line placement"),
}

FRAMES: Phrases = (
    "there {verb} {noun}.",
    "{noun} {verb} present.",
    "{noun} {verb} seen.",
    "{noun} {verb} noted.",
    "{bare}.",
)
HEDGES: Phrases = (
    "{noun} may be present.",
    "{noun} cannot be excluded.",
    "cannot exclude {noun}.",
    "possible {bare}.",
    "findings may represent {noun}.",
    "questionable {bare}.",
    "appearance is suspicious for {noun}.",
)
RESOLVED: Phrases = (
    "previously seen {bare} {has} resolved.",
    "interval resolution of {bare}.",
    "{bare} on the prior study {has} cleared.",
)
CHANGES: Phrases = (", unchanged", ", increased since the prior study", ", decreased from prior", ", new since prior")

COUNTED = ("Pleural Effusion", "Pneumothorax", "Lung Opacity")

NOUNS: dict[str, Phrases] = {
    "Enlarged Cardiomediastinum": (
        "{grade} widening of the mediastinum",
        "{grade} enlargement of the cardiomediastinal silhouette",
        "{grade} prominence of the superior mediastinum",
    ),
    "Cardiomegaly": (
        "{grade} cardiomegaly",
        "{grade} enlargement of the heart",
        "{grade} enlargement of the cardiac silhouette",
    ),
    "Lung Opacity": (
        "[a] {density} opacity {where}",
        "{extent} {density} airspace opacification {where}",
        "{density} hazy opacification {where}",
        "[a] {extent} {density} opacity {where}",
    ),
    "Lung Lesion": (
        "[a] {mm} mm nodule {where}",
        "[a] {density} {mm} mm rounded lesion {where}",
        "[a] {mm} mm mass {where}",
    ),
    "Edema": (
        "{grade} pulmonary edema",
        "{grade} interstitial edema",
        "{grade} pulmonary vascular congestion with {extent} edema",
    ),
    "Consolidation": (
        "{density} consolidation {where}",
        "{extent} {density} consolidation {where}",
        "{density} airspace consolidation {where}",
    ),
    "Pneumonia": ("{grade} pneumonia {where}", "{extent} pneumonia {where}", "{grade} {extent} pneumonia {where}"),
    "Atelectasis": (
        "{grade} atelectasis {where}",
        "{grade} linear atelectasis {where}",
        "{grade} platelike atelectasis {where}",
        "{extent} subsegmental atelectasis {where}",
    ),
    "Pneumothorax": (
        "[a] {size} {side} pneumothorax",
        "[a] {size} {side} apical pneumothorax",
        "[a] {size} pneumothorax {where}",
    ),
    "Pleural Effusion": (
        "[a] {size} {side} pleural effusion{s}",
        "[a] {size} {side} effusion{s}",
        "[a] {size} layering {side} pleural effusion{s}",
    ),
    "Pleural Other": ("{grade} {side} pleural {kind}", "{extent} {side} pleural {kind}"),
    "Fracture": (
        "[a] {shift} {side} {rib} rib fracture",
        "[a] {shift} fracture of the {side} {rib} rib",
        "[a] {shift} fracture of the {side} lateral {rib} rib",
    ),
    "Support Devices": (
        "[a] {side} {kind}",
        "[a] {side} {kind} in standard position",
        "[a] {side} {kind} in appropriate position",
    ),
}
"""Finding to its noun phrases; [a] becomes an article."""

ONE_SIDE: dict[str, Phrases] = {
    "upper": ("in the {side} upper lobe", "in the {side} upper lung zone", "at the {side} apex"),
    "mid": ("in the {side} mid lung", "in the {side} perihilar region", "in the {side} mid lung zone"),
    "lower": ("in the {side} lower lobe", "at the {side} lung base", "in the {side} lower lung zone"),
}
BOTH_SIDES: dict[str, Phrases] = {
    "upper": ("in both upper lobes", "in the upper lungs bilaterally"),
    "mid": ("in both mid lungs", "in the perihilar regions bilaterally"),
    "lower": ("at both lung bases", "in the lower lobes bilaterally"),
}

SHORT: dict[str, str] = {
    "Consolidation": "focal consolidation",
    "Pneumonia": "pneumonia",
    "Lung Opacity": "focal opacity",
    "Edema": "pulmonary edema",
    "Pleural Effusion": "pleural effusion",
    "Pneumothorax": "pneumothorax",
    "Fracture": "acute fracture",
}
"""Findings that are denied in a list, and their names there."""

DENIALS: dict[str, Phrases] = {
    "Enlarged Cardiomediastinum": (
        "The mediastinal contours are normal.",
        "Mediastinum is not widened.",
        "Cardiomediastinal silhouette is within normal limits.",
    ),
    "Cardiomegaly": ("The heart is normal in size.", "Heart size is within normal limits.", "No cardiomegaly."),
    "Lung Opacity": ("The lungs are clear.", "Lungs are clear without opacity.", "No focal airspace opacity."),
    "Lung Lesion": ("No suspicious nodule or mass.", "No pulmonary nodule."),
    "Edema": ("No pulmonary edema.", "Pulmonary vasculature is normal.", "No vascular congestion or edema."),
    "Consolidation": ("No focal consolidation.", "The lungs are without consolidation."),
    "Pneumonia": ("No evidence of pneumonia.", "No radiographic findings of pneumonia."),
    "Atelectasis": ("No atelectasis.", "No significant atelectasis."),
    "Pneumothorax": ("No pneumothorax.", "No evidence of pneumothorax."),
    "Pleural Effusion": ("No pleural effusion.", "The costophrenic angles are sharp."),
    "Pleural Other": ("No pleural thickening.", "Pleural surfaces are smooth."),
    "Fracture": ("No acute fracture.", "Osseous structures are intact.", "No acute bony abnormality."),
    "Support Devices": ("No lines or tubes.", "No support devices."),
}

ASIDES: dict[str, Phrases] = {
    "tortuous aorta": ("The aorta is tortuous.", "Tortuosity of the thoracic aorta.", "Tortuous, ectatic aorta."),
    "hyperinflation": (
        "The lungs are hyperinflated.",
        "Hyperinflation with flattened diaphragms, suggesting COPD.",
        "Emphysematous changes with increased lung volumes.",
    ),
    "low lung volumes": ("Lung volumes are low.", "Low lung volumes with crowding of bronchovascular structures."),
    "scoliosis": ("Scoliosis of the thoracic spine, convex to the {side}.", "Thoracic scoliosis, {side} convex."),
    "granuloma": (
        "Calcified granuloma in the {side} lung.",
        "A calcified {side} lung granuloma is incidentally noted.",
    ),
    "raised diaphragm": ("Elevated {side} hemidiaphragm.", "The {side} hemidiaphragm is elevated."),
    "rotation": ("The patient is rotated to the {side}.", "Evaluation is limited by {side}ward rotation."),
    "underexposure": ("The film is underpenetrated.", "Underexposed film limits evaluation for subtle opacity."),
    "breasts": ("Breast shadows overlie the lower lungs.",),
}
"""What is seen but has no label, and its sentences."""

ALL_CLEAR: Phrases = (
    "No acute cardiopulmonary process.",
    "No acute cardiopulmonary abnormality.",
    "Normal chest radiograph.",
    "No acute intrathoracic abnormality.",
    "Unremarkable examination.",
)
