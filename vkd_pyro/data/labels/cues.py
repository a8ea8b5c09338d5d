"""What denies, hedges or affirms a finding, and where what is said of it ends: the cues of `scope`.

Patterns are matched against the skeleton of a sentence: its words in small letters, one space between two, with a
capital in place of each name: F a finding, D a device, O an organ, J a judgement of one, X what is passed over, A an
artefact. What is written first among those of a role is not preferred; the longest match at a place counts.
"""

ABSENT_BEFORE, ABSENT_AFTER, ABSENT_BESIDE = "absent before", "absent after", "absent beside"
UNCERTAIN_BEFORE, UNCERTAIN_AFTER, UNCERTAIN_BESIDE = "uncertain before", "uncertain after", "uncertain beside"
PRESENT_BEFORE, PRESENT_AFTER, PRESENT_BESIDE = "present before", "present after", "present beside"
REMOVED_BEFORE, REMOVED_AFTER, REMOVED_BESIDE = "removed before", "removed after", "removed beside"
OPEN_BEFORE, OPEN_AFTER, OPEN_BESIDE, OPEN_AROUND = "open before", "open after", "open beside", "open around"
CONFIRMED_AFTER, CERTAIN_AFTER = "confirmed after", "certain after"
"""A cue stands before what it is said of, after it, around it (between two), or beside it: before it where a name
follows, else after it. "Open" is uncertain whatever else is said: what is denied and cannot be excluded is uncertain.
"Confirmed" is present even after a hedge, "certain" whatever was said before."""
STOP, PASS = "stop", "pass"
"""A new clause begins; a word that is no cue here."""

_ADVERBS = (
    r"(?:(?:[a-z]+ly|yet|now|since|also|well|quite|all|both|be|been|being|further|again|any|to|the|a|of|still|then) )*"
)
_SEEN = (
    r"(?:seen|present|identified|evident|visuali[sz]ed|visible|demonstrated|apparent|appreciated|detected|observed|"
    r"noted|found|recogni[sz]ed|discern(?:ed|ible)|perceived|shown|there|delineated|imaged)"
)
_GONE = r"(?:resolved|cleared|disappeared|gone(?: away)?|vanished|absent|subsided|evacuated|drained|re ?expanded)"
_GOING = r"(?:resolution|clearing|clearance|disappearance|evacuation)"
_EXCLUDE = (
    r"(?:exclude[ds]?|excluding|rule[ds]? out|ruling out|discount(?:ed)?|dismiss(?:ed)?|eliminated?|"
    r"refuted?|disprove[nd]?|rule)"
)
_CONFIRM = (
    r"(?:confirm(?:ed)?|diagnosed?|verif(?:y|ied)|establish(?:ed)?|ascertain(?:ed)?|assured?|guaranteed?|proven|proved|substantiated|documented|determined?|assess(?:ed)?|"
    r"evaluated?|judged?|differentiated?|distinguish(?:ed)?|characterized?|made|commented on)"
)
_CANNOT = (
    r"(?:cannot|can not|could not|can neither|could neither|may not|might not|should not|would not|not|never|unable to|"
    r"(?:difficult|hard|impossible|insufficient|inadequate|not possible|tough|limited) to)"
)
_DEGREE = (
    r"(?:(?:significant|interval|definite|appreciable|substantial|relevant|further|other|acute|new|evident|large|real|"
    r"major|obvious|notable|detectable|apparent|short term|radiographic|clear|much|any|measurable|discernible) )*"
)
_CHANGE = (
    r"(?:changes?|increase|decrease|improvement|worsening|progression|difference|growth|reduction|resolution|clearing|"
    r"regression|variation)"
)
_EARLIER = r"(?:prior|previous|previously|earlier|old|last|comparison|before|preceding|outside)"
_STUDY = r"(?:study|studies|film|films|exam|examination|radiographs?|x ray|image|images|ct|chest|report|one)"
_NOT_WHOLLY = (
    r"(?:near|nearly|almost|partial|partially|partly|incomplete|incompletely|mostly|largely|some|slight|slightly|mild|"
    r"moderate|substantial|significant|marked|considerable|continued|ongoing|further|slow|gradual|early|minimal|"
    r"not|somewhat|virtually|substantially|significantly|markedly|much|continuing)"
)
_MAY = r"(?:may|might|could|would|can|should|must|needs? to|has to|have to|ought to)"
_TECHNICAL = (
    r"(?:rotation|rotated|position|positioning|positional|technique|technical|projection|projectional|portable|"
    r"overlapping|overlap|overlying|superimposed|superimposition|summation|artefact|artifact|artifactual|expiration|"
    r"ap|supine|magnification|hypoinflation|low|poor|shallow)"
)

CUES: dict[str, list[str]] = {
    ABSENT_BEFORE: [
        r"no|not|without|never|nor|neither|nothing|denies|absence of|lack of|lacks|none of",
        r"(?:negative|neg) (?:for|of)|(?:free|clear|devoid|empty) (?:of|from)",
        r"rather than|instead of|as opposed to|opposed to|in place of|(?:and|but) not(?= (?:[a-z]+ ){0,4}[FDXJ])",
        rf"(?:(?:complete|interval|full|total|near total|apparent|spontaneous|subsequent) )*{_GOING} of",
        r"(?:argues?|arguing|speaks?|evidence|militates?) against|(?:not|in)consistent with|no longer (?:is|"
        r"are) there(?: any)?",
        r"(?:fails?|failed) to (?:show|demonstrate|reveal|identify)",
        r"(?:little|scant) evidence (?:of|for)",
        r"(?:low|little|no) (?:suspicion|probability|likelihood|concern) (?:for|of)|doubt",
        r"unlikely (?:to )?(?:be|represent|reflect|represents|reflects|due to|related to)",
    ],
    OPEN_BEFORE: [
        rf"(?:cannot|can not|could not|not|never|difficult to|hard to|impossible to|"
        rf"unable to) {_ADVERBS}(?:certain|sure|"
        rf"confident|tell|say|know|determine|confirm|exclude)(?:(?: that| if| whether)(?: there (?:is|are))?|"
        rf" there (?:is|are))"
        r"(?: no| a| any| an)?",
    ],
    OPEN_AROUND: [
        rf"(?:{_CANNOT} {_ADVERBS}(?:distinguish|distinguished|differentiated?|separated?)|indistinguishable|"
        r"not distinguishable) from",
    ],
    CONFIRMED_AFTER: [r"(?:is|are|was|were|has been|have been) (?:now |indeed |again )?confirmed|(?:is|are) real"],
    CERTAIN_AFTER: [r"(?:is|are|was|were|remains?) (?:incomplete|partial|not complete|only partial|not yet complete)"],
    ABSENT_AFTER: [
        rf"(?:cannot |can not |could not )?(?:is |are |was |were )?(?:not|no longer|never|nowhere) {_ADVERBS}"
        rf"(?:{_SEEN}|suspected|likely|favou?red|convincing|felt likely|considered likely)",
        rf"(?:cannot|can not|could not) {_ADVERBS}{_SEEN}",
        r"(?:(?:has|have|had|did|does|do) not|never|has never|have never) (?:recurred|recur|returned|return|"
        r"reaccumulated|developed|develop|occurred|"
        r"reappeared|reappear|formed|reformed|come back)",
        r"(?:no|without) (?:evidence of |sign of |signs of )?(?:recurrence|reaccumulation)(?! of)",
        r"none(?! (?:displaced|new|acute|larger|of))|nil|nonexistent",
        r"(?:is|are|was|were) (?:not (?:a )?(?:real|true|genuine)|spurious|false|fictitious)(?: finding)?",
        rf"(?:is|are|was|were) not the {_ADVERBS}(?:likely |probable )?(?:cause|source|explanation|etiology|reason)",
        r"(?:is|are|was|were|represents?|corresponds? to|reflects?|proved to be|turned out to be|equals) "
        r"(?:just |only |simply |actually |merely |in fact )?(?:(?:a|an|the|left|right|both|known) )*A",
        r"(?:is |are |appears? )?(?:within J|within limits of normal)",
    ],
    ABSENT_BESIDE: [
        rf"{_GONE}|(?:fully|completely|entirely) {_GONE}|excluded|excludes|ruled out|rules out|disproven",
        r"unlikely|doubtful|improbable|not likely|not favou?red|not felt|not thought|not believed|least likely",
        rf"no longer(?: {_SEEN})?(?: any| a| an| the| evidence| signs?| of)*",
        r"not suspected|very unlikely|absent|negative",
    ],
    UNCERTAIN_BEFORE: [
        r"may|might|could|perhaps|maybe|apparent|apparently|presumably|borderline|whether|if|query|queries|consider",
        rf"(?:may|might|could|would|perhaps|(?:most |very |more |quite )?(?:possibly|probably|likely)|presumably|"
        rf"potentially|suspected to|"
        rf"favou?red to|felt "
        rf"to|thought to)(?: have)? {_ADVERBS}(?:due to|secondary to|related to|from|because of|caused by|"
        rf"attributed to|"
        r"attributable to|accounted for by|with)",
        rf"{_MAY} be seen (?:with|in)",
        r"(?:suspicious|suspicion|concern|concerns|concerning|concerned|worrisome|worry|worried) (?:for|of|about)",
        r"(?:worrisome|concerning|suspicious) appearance for",
        r"suggest|suggests|suggesting|suggestive of|suggestion of|hint of|favou?rs?|favou?ring",
        r"(?:to |please |must |kindly )?(?:exclude|excluding|rule out|rule|ruling out)",
        r"(?:evaluate|evaluated|evaluating|evaluation|assess|assessed|assessing|assessment|check|checking|look|looking|"
        r"screen|screening|monitor|workup|work up|search|searching|surveillance|correlate|correlation|correlated|"
        r"correlating|symptoms|signs and symptoms|indeterminate|equivocal|insensitive|nonspecific|limited) (?:[a-z]+ly "
        r"|for |with |clinical |signs |of |symptoms |and )*(?:for|of)",
        r"evaluate|assess|follow up|followup",
        r"question|question of|questions|in question|possibility of|chance of|likelihood of",
        r"(?:possibilities|etiologies|causes|diagnoses|differential) includes?",
        r"differential|differential diagnosis|differential considerations|considerations|thought to|felt to|"
        r"believed to",
        r"(?:known |clinical |prior |past |remote |recent |medical )*history of|known history",
        r"(?:lobectomy|pneumonectomy|resection|surgery|thoracotomy|treatment|treated|therapy|radiation|chemotherapy|"
        r"mastectomy|biopsy|wedge resection|status post) for",
        r"(?:(?:previously|initially|originally|first) )?(?:misinterpreted|interpreted|described|reported|"
        r"called|misread|"
        r"labell?ed|construed|mistaken) as(?: a| an| the)*",
        r"mimic|mimics|mimicking|simulates?|simulating|mistaken for|resembl(?:es|ing)|masquerading as|looks? like|"
        r"confused with|disregard|disregarding|ignore",
        r"too (?!small)[a-z]+ (?:for|to be)",
        r"with or without|with and without|with possible|less likely to",
        rf"(?:the |an |a )?{_EARLIER} (?:[a-z]+ ){{0,2}}?{_STUDY}(?: that| which)? "
        r"(?:show(?:ed|ing)|demonstrat(?:ed|ing)|reveal(?:ed|ing))",
    ],
    UNCERTAIN_AFTER: [
        r"(?:a|an|another|one|also|the|remains?|main|leading|primary) (?:[a-z]+ )?(?:consideration|possibility|"
        r"concern)(?! of| for| that)",
        r"in the (?:[a-z]+ )?differential(?: diagnosis)?|if real|if clinically [a-z]+|in question",
        r"(?:may|might) (?:have )?(?:[a-z]+ )?(?:resolved|cleared|disappeared)",
        r"(?:is|are|was|were) (?:also )?(?:suggested|raised|questioned|entertained|implied|hinted at)",
        r"should (?:instead )?read|in error|erroneous|erroneously|or both",
        rf"{_MAY} {_ADVERBS}(?:present|considered|obscured|hidden|missed|masked|there|seen|overlooked|concealed|"
        r"developing|entertained|raised|appreciated|suspected|underlying|questioned|undetected|occult|invisible)",
        rf"{_MAY} (?:easily |still |also )?(?:go (?:undetected|unseen|unnoticed)|escape|evade|elude|hide|lurk|"
        rf"coexist|exist|"
        r"underlie)(?: detection)?",
        rf"(?:is |are |was |were )?(?:likely |probably |possibly |perhaps |may be |could be |felt to be )?"
        rf"(?:due to|related to|from|secondary to|caused by|because of|attributed to|attributable to|exaggerated by|"
        rf"accentuated by|explained by|represents?|reflects?|"
        rf"accounted for by) {_ADVERBS}(?:patient )?(?:{_TECHNICAL}|A)",
        r"(?:likely|probably|possibly|perhaps|may be|could be|may represent|could represent|favou?red to be|felt to be|"
        r"most likely) (?:represents? |reflects? |just |only |due to )?(?:(?:a|an|the|left|right) )*A",
        r"(?:is |are |was |were )?not (?:well|optimally|adequately|fully|completely|entirely|clearly) (?:seen|"
        r"visuali[sz]ed|evaluated|"
        r"assessed|"
        r"defined|demonstrated)",
        r"(?:is|are) (?:limited|suboptimal|compromised)",
        r"more likely(?= than)",
        r"(?:could|may|might|can|would) (?:also |well )?(?:have|give|produce|cause|look) (?:like )?(?:this|a|an|the|"
        r"such)"
        r"(?: [a-z]+){0,2} ?(?:appearance|pattern|picture|this)?(?![^ ])",
        r"(?:is|are) (?:the )?(?:favou?red|most likely|likely|leading|working|presumptive) (?:diagnosis|cause|etiology|"
        r"explanation)",
    ],
    UNCERTAIN_BESIDE: [
        r"likely present|suspected clinically|possible|possibly|probable|probably|likely|suspected|questionable|"
        r"questioned|equivocal|uncertain|unclear|"
        r"indeterminate|suspect|suspects|presumed|considered|potential|potentially|favou?red|suggested|less likely|"
        r"less probable|more likely|most likely|conceivable|\?",
        r"if any|if present",
        r"in the (?:appropriate|right|proper|correct|given|same) (?:clinical )?(?:setting|context|situation|scenario)",
        rf"not (?:[a-z]+ly )?{_CONFIRM}",
    ],
    OPEN_BESIDE: [
        rf"{_CANNOT} {_ADVERBS}(?:{_CONFIRM}(?: ,)? (?:or|nor|and) )*(?:be )?{_ADVERBS}{_EXCLUDE}",
        rf"{_CANNOT} {_ADVERBS}{_EXCLUDE}(?: (?:or|nor|and) {_ADVERBS}{_CONFIRM})?",
        rf"(?:difficult|hard|impossible|limited|tough) to {_ADVERBS}(?:see|detect|identify|appreciate|"
        rf"visuali[sz]e|perceive)",
        rf"(?:cannot|can not|could not|can neither|unable to|(?:difficult|hard|impossible) to) {_ADVERBS}{_CONFIRM}"
        rf"(?: (?:or|nor|and) {_ADVERBS}{_EXCLUDE})?",
        rf"(?:no|nothing|none|neither)(?: [a-z]+){{0,5}} {_EXCLUDE}",
        rf"(?:{_CANNOT}|do not|does not|insufficient|inadequate|not sufficient)(?: [a-z]+){{0,3}} "
        rf"(?:exclusion|confirmation|to {_EXCLUDE})(?: of)?",
        rf"{_MAY} be {_ADVERBS}(?:excluded|ruled out)",
        r"(?:cannot|can not|could not|difficult to|hard to) (?:tell|say|know|be sure|be certain)(?: whether| if| of)?",
        rf"may not {_ADVERBS}{_SEEN}",
    ],
    PRESENT_BEFORE: [
        r"not (?:[a-z]+ly )?(?:free|clear|devoid|negative) (?:of|for|from)|not without",
        rf"(?:no|without|little|not much|minimal|not) {_DEGREE}{_CHANGE} (?:in|of|to|with)(?: the)?"
        r"(?: size| extent| appearance| degree| amount| volume)?(?: or [a-z]+)?(?: of| in)?(?: the)?",
        rf"(?:{_NOT_WHOLLY} )+(?:but )?(?:incomplete )?(?:complete |total |interval )*{_GOING} of",
        rf"no {_DEGREE}(?:change|increase|decrease)",
        rf"(?:ensure|document|confirm|verify|assure|until|demonstrate|to|follow) (?:for )?(?:complete |"
        rf"full )*{_GOING} of",
    ],
    PRESENT_AFTER: [
        rf"(?:no|without) {_DEGREE}{_CHANGE}(?! in| of)",
        r"(?:has |have |had |is |are |was |were )?not (?:[a-z]+ly |yet |much |been |any )*(?:changed|increased|"
        r"decreased|"
        r"improved|worsened|progressed|grown|larger|smaller|bigger|worse|different|better|new|more|less|resolved|"
        r"cleared|disappeared|gone|drained|absent|regressed|enlarged since|subsided|as)",
        r"no (?:larger|smaller|worse|better|bigger|different|more|less|greater|longer (?:than|as))",
        rf"(?:{_NOT_WHOLLY} )+(?:but )?(?:complete |completely |entirely |fully |totally )*{_GONE}",
        rf"{_GONE} (?:partially|partly|incompletely|in part|somewhat|slightly)",
        rf"(?:is |are |was |were )?(?:not|never) {_ADVERBS}(?:{_SEEN}|on|in)(?: [a-z]+){{0,2}} (?:on|in|"
        rf"at) (?:the |her |his )?{_EARLIER}",
        rf"(?:is |are |was |were |had been )?not {_ADVERBS}(?:{_SEEN} {_EARLIER}|{_EARLIER} {_SEEN})",
        r"(?:no|not) resolution",
    ],
    REMOVED_BEFORE: [
        r"(?:interval |subsequent |recent |status post )*(?:removal|discontinuation|explantation|extraction) of|"
        r"removing",
    ],
    REMOVED_AFTER: [
        rf"(?:is |are |was |were )?(?:no longer|not) {_ADVERBS}(?:in place|in situ|in position)",
        r"(?:(?:has|have|had|was|were|is|are|been|since|now|also|all|both) )+out(?! of)|out(?=$| [,;])|removal",
    ],
    REMOVED_BESIDE: [
        r"(?:(?:has|have|had|was|were|is|are|been|since|now|also|all|both|subsequently|recently|interval|apparently) )*"
        r"(?:removed|pulled|taken out|pulled out|discontinued|explanted|extracted)(?! back| up| by)",
    ],
    PASS: [
        r"(?:not|no) (?:only|necessarily|certain|included|just|completely|entirely|optimally|imaged)",
        r"(?:consistent|compatible|keeping|concordant|together|along|concerned|compared|comparison|correlated|"
        r"associated) "
        r"with",
        r"removed and (?:then |subsequently )?(?:replaced|exchanged|reinserted|repositioned)",
        r"removed (?:and|then) replaced|replaced|most (?:consistent|compatible)",
        r"(?:no|not) doubt|without doubt|no (?:other|additional) (?:change|abnormality)",
    ],
    STOP: [
        r";|but|although|though|however|except|nevertheless|yet|which|otherwise|while|whereas|with|[()]|--|whilst",
        r"(?:and|with) (?:interval |subsequent )?(?:placement|insertion) of",
        r"aside from|apart from|other than|save for|besides|except for|with the exception of|in addition to|despite",
        r"after|following|status post|since|because|secondary to|due to|and there|there|given|despite|as well as new",
    ],
}  # fmt: skip
"""Role -> patterns of it."""

_SIDE = r"(?:one )?(?:on|at|in) the (?:left|right)(?: (?:side|base|apex|lung))?"

IN_CONTEXT: list[tuple[str, str]] = [
    (
        PRESENT_AFTER,
        rf"\b(?:frontal|lateral|pa|ap) (?:view|projection|film|radiograph|image) ,? ?(?:but |and )?"
        rf"((?:is |are )?not {_ADVERBS}{_SEEN} (?:on|in) (?:the )?(?:frontal|lateral|pa|ap|other))(?![^ ])",
    ),
    (UNCERTAIN_BEFORE, r"\bfavou?r\w* (?:\S+ ){0,8}?(over)\b"),
    (
        CERTAIN_AFTER,
        rf"[,;] (?:but )?((?:small|tiny|trace|mild|moderate|large|minimal|present|some|persistent|residual) {_SIDE})$",
    ),
    (
        CERTAIN_AFTER,
        r"(?:but|while|whereas|and|;|,) (the (?:left|right)(?: one| side)? (?:persists?|remains?|is (?:still )?"
        r"(?:present|seen|unchanged|stable|larger|smaller)))$",
    ),
    (CERTAIN_AFTER, rf"\bnot all (?:\S+ ){{1,5}}?((?:has |have |is |are )?(?:been )?{_GONE})(?![^ ])"),
    (
        CERTAIN_AFTER,
        r"\bneither (?:\S+ ){1,6}?((?:has|have|is|are|was|were) (?:[a-z]+ly )?(?:changed|larger|smaller|worse|better|"
        r"improved|increased|decreased|worsened))(?![^ ])",
    ),
    (OPEN_AFTER, rf"\b(?:nor|neither) (?:can|could) (?:\S+ ){{1,6}}?(be (?:[a-z]+ly )*{_EXCLUDE})(?![^ ])"),
    (UNCERTAIN_BEFORE, r"\b(?:likely|probable|possible|more) (?:\S+ ){0,8}?(than(?: with| of| for)?)\b"),
]
"""Role and pattern of cues, in brackets, that are cues only after other words."""
