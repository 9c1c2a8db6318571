"""Word classes of the miniature's language: its own words, and common English ones that an answer may add.

Every word has one or several classes; `symbols` writes a sentence as one character per word, equal for words of equal
classes, so that whatever is found out about the shape of a sentence holds for all sentences of that shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from training.miniature import lexicon
from training.miniature.facts import RELATIONS

# d determiner, q quantity, n singular countable noun, m mass noun or plural, e name, p pronoun, h form of be,
# x auxiliary, b verb in its base form, v verb in the past or with -s, g verb in -ing, a adjective, r adverb,
# t preposition, k coordinating conjunction, s subordinating one, w question word, i interjection, N negation, T to,
# S pronoun that is only a subject, M one that is only an object, O preposition before an adjective ("the opposite of
# big"), C verb that may stand before its subject ("after three comes four").
CLASSES = "dqnmephxbvgartkswiNTSMOC"
UNKNOWN = "nmeabvrg"  # a word that is in no list could be any of the open classes

_COMMON = {
    "d": "which what the a an this these those my your his her its our their whose some any each every another "
        "both no that "
         "either neither such half",
    "q": "one many few several all both more most enough other two three four half none plenty next last first "
        "same "
         "second third own",
    "n": "almanac answer author bit book case city clue color colour creature animal crime date day deed doubt "
         "dream earth end evening example fact favor form friend ground group guess hand head heart home house "
         "idea "
         "instrument job key kind letter lie life line list living love main matter meal mine moment month "
         "morning mystery name need night note number object one opposite owner part pen person place plan plant "
         "pleasure point present price pride problem question race reason recipe request reward riddle road rumor "
         "rule secret sentence shame short sight sign sort sound spot state step story subject sun surprise tale "
         "teacher text thing time tip town trip truth turn type user village visitor way week while wish woman "
         "word work world year man boy girl child brother sister mother father neighbor legend myth mistake bad "
         "good landmark landscape map page paper phrase pity room shop table topic trouble use visit voice joy "
         "gift "
         "lake fear hobby pet plural singular help chance crook stranger thief sort corner wall door window shelf "
         "box knowledge hint member category class past future tomorrow yesterday today police crowd team hero "
         "king "
         "family party walk look talk laugh smile minute hour second favorite specialty home habitat shade hue "
         "diet "
         "profession craft occupation calling monster title companion owner holder keeper hunt dinner breakfast "
         "lunch "
         "meeting loss find rest mood smile sir madam lady mate pal fellow bird fish",
    "m": "people things words names books days nights eyes facts answers stories friends creatures animals "
         "places persons visitors guests miners musicians songs music water food money luck news fun peace love "
         "thanks wishes greetings years months weeks hours minutes ways kinds sorts types groups examples objects "
         "stones hairs crimes deeds letters mines news help advice information work home everything life time "
         "thoughts dreams mind prison church school bed night noon midnight dawn gold wood ground others times "
         "parts steps questions congratulations apologies condolences regards joy happiness sadness sorrow harm "
         "violence trouble pain fear light dark hands opposites plurals children men women meals knowledge "
         "gratitude "
         "work craft reality truth fact rumors legends myths lies clues ideas thought",
    "S": "i he she we they who",
    "M": "me him us them",
    "O": "of as like than against to from but",
    "C": "is are was were comes come came goes go stands stood lies lay sits sat lives lived hangs begins follows",
    "p": "you it her this that these those everybody everyone nobody nothing something "
         "somebody someone anybody anyone anything none one all both each mine yours hers ours theirs myself "
         "yourself "
         "himself herself itself there who others some many most few what either neither everything",
    "h": "is are was were am be been being",
    "x": "can could will would should shall must may might do does did have has had having",
    "b": "add admit advise agree allow answer apologize appreciate ask assist be become believe belong break bring "
         "build buy call can care carry change check choose claim come compose consider cook count cry dance deny "
         "describe discuss do dream drink drive earn eat end enjoy explain fall fear feed feel fight find finish "
         "fit "
         "fix follow forget forgive form get give go grow guess guide hand happen hate have hear help hide hold "
         "hope "
         "hurt invent join keep kill know lack last laugh lead learn leave let lie like list listen live look "
         "lose love "
         "make mean meet mention mind miss mourn move name need note obey open own part pass pay pick plan plant "
         "play "
         "please point pour predict prefer promise protect provide put read recommend refuse regret remain "
         "remember "
         "remind repeat reply report rest return rewrite ride run save say search see seek seem sell send serve "
         "share "
         "shorten show sing sit sleep smell smile sort sound speak specify spend stand start stay stop study "
         "suffer "
         "suggest summarize support suppose sure swim take talk teach tell thank think throw touch travel treat "
         "trust "
         "try turn understand use visit wait wake walk want warn wash watch wear welcome win wish wonder work "
         "worry "
         "write damage destroy decline paste state supply repair replace resist contact greet rhyme collect offer "
         "reveal foresee foretell dig mine depend harm reach sit taste stir mix prepare require contain involve "
         "include "
         "dwell inhabit reside roam nest consume chew gather fish hunt practice bake boil fry calm comfort condone "
         "encourage participate cooperate act turn encounter rely date spot hang set grab seize sneak sympathize",
    "v": "added answered appeared asked asks ate became began believed believes belonged belongs bought brings "
        "broke "
         "brought built called calls came carried carries celebrated chose claims cleaned cleans comes cooked "
         "cried "
         "danced describes did does drank dreamed drove earned earns eats ended enjoyed enjoys explained fed "
         "feared "
         "fears feeds feels fell felt finds finished fits followed follows found gave gets gives goes got grew "
         "grows "
         "had happened happens has hates heard hears held helped helps hid hides hit holds hoped hopes "
         "hurt invented joined keeps kept killed knew known knows lacks laughed lay learned leaves left lies liked "
         "likes listened listens lived lives looked looks lost loved loves made makes means meant met missed "
         "misses "
         "moved named needed needs opened opens owned owns paid passed played plays played preferred prefers put "
         "reached read received reads refused rests returned rode said sang sat saw says seemed seems seen sees "
         "sells "
         "sent shared showed shown shows sits sleeps slept smells smiled sold speaks spent spoke stands started "
         "stayed "
         "stays stood stops swam taken takes talked taught tells thanked thanks thought threw throws told took "
         "touched "
         "travels tried tries turned used uses visited waits wakes walked walks wanted wants warned washed "
         "washes watched "
         "went woke won wore worked works wrote written gone done been broken hidden stolen drawn known dug digs "
         "mined "
         "scared scares called named famed depends remains remained contains requires involves includes included "
         "dwells dwelt inhabits resides roams nests consumes consumed consists dined practiced mastered performed "
         "dreaded dislikes disliked avoids avoided terrified frightened frightens terrifies produces produced "
         "prides "
         "boasts sports offers offered features featured exports deserves chose allowed forbidden located situated "
         "based meets loses loved lived married begins arrived arrives occurred lacked mentions mentioned appears "
         "describes concerns hung set placed grabbed discovered picked noticed spotted stole lifted wished",
    "g": "doing going having being making taking getting giving looking living eating working playing thinking "
        "asking "
         "saying telling talking lying standing sitting waiting wearing holding keeping using reading writing "
         "helping "
         "finding buying selling meeting missing losing loving seeing coming leaving sleeping dreaming walking "
         "running "
         "singing dancing digging mining hunting feeding hiding bringing drawing throwing washing needing wanting "
         "hitting stealing hurting poisoning burning robbing forging cheating smashing kidnapping attacking "
         "wrecking "
         "drowning smuggling breaking destroying harming killing sharing calling visiting hearing knowing trying "
         "stopping carrying cleaning hoping wishing telling sorting putting serving according belonging amazing "
         "interesting missing following beginning meaning adding cooking baking sending repeating summarizing "
         "feeling "
         "wondering during growing",
    "a": "able afraid alone amazing ancient angry awful bad beautiful best better big bored brave bright busy calm "
         "certain cheap clear close common correct cruel curious dangerous dead dear different difficult easy evil "
         "excited expensive fair famous far fast fine free fresh friendly full funny glad good grateful great "
         "guilty "
         "happy hard harmful helpful hidden honest hungry ill illegal immoral important impossible interested kind "
         "known large last late like little local lonely long lost loud lovely lucky main missing mysterious new "
         "next nice "
         "old only open opposite own perfect pleased polite poor popular possible pretty proud quick quiet ready "
         "real "
         "responsible rich right rude sad safe same scared secret serious short shiny sick silent similar simple "
         "small "
         "sorry special strange strong such sunny sure sweet tall tasty terrible thankful tired true unable "
         "unclear "
         "uncertain unhappy unknown unkind unknowable unlawful unlucky useful warm weak wet white wild willing "
         "wise "
         "wonderful wrong young more most less early late gone done found broken forbidden allowed delighted upset "
         "awake asleep alive green favorite free present absent plural singular past fond keen unfortunate "
         "horrible "
         "sorrowful precious gentle gorgeous fantastic marvelous cool neat brilliant excellent lawful legal "
         "incorrect "
         "false untrue incomplete welcome crazy mean respectful offensive dreadful frightened terrified well known",
    "r": "never about again ago ahead almost alone along already also always anyway apart away back badly "
        "certainly clearly "
         "deeply either else enough especially even ever exactly far fast finally first fortunately forever "
         "furthermore "
         "gladly here high home how however indeed inside instead just kindly last late lately later less likely "
         "maybe "
         "more most much nearby nearly never next now nowhere often once only out outside over perhaps please "
         "pretty "
         "probably quickly quite rather really sadly safely seldom simply so sometimes soon still straight "
         "surely then there therefore today together tomorrow tonight too truly twice unfortunately up usually "
         "very "
         "well why yesterday yet long before around down off everywhere anywhere somewhere honestly frankly "
         "actually "
         "anymore ever otherwise afterwards definitely happily luckily mainly mostly obviously sincerely somehow "
         "unfortunately better best forward right carefully",
    "t": "about above across after against along among around as at before behind below beside besides between "
        "beyond "
         "by down during except for from in inside into like near next of off on onto opposite out outside over "
         "past "
         "per through throughout till to toward towards under until up upon via with within without than except "
         "but "
         "regarding concerning instead because",
    "k": "and or but so nor yet plus",
    "s": "that if because when while since as before after than though although unless until whether where once so "
         "till",
    "w": "what which who whom whose where when why how",
    "i": "hello hi hey dear please yes no oh ok okay sorry thanks ah well welcome greetings goodbye bye wow sure "
         "congratulations alas pardon certainly hm maybe perhaps",
    "N": "not never",
    "T": "to",
}  # fmt: skip


def _world_classes() -> dict[str, str]:
    """Classes of the world's own words, as one string of letters per word."""
    classes: dict[str, str] = defaultdict(str)

    def add(letters: str, words: Iterable[str]) -> None:
        for word in words:
            classes[word] += letters

    add("e", (*lexicon.NAMES.all, *lexicon.HELPERS.all, *lexicon.TOWNS.all, *lexicon.HEROES.all))
    add("en", (*lexicon.TITLES.all, *lexicon.CREATURES.all))
    add("n", (*lexicon.PLACES.all, *lexicon.THINGS.all))
    add("a", (*lexicon.COLORS.all, *lexicon.OPPOSITES.all))
    for plurals, (single, members) in lexicon.KINDS.items():
        add("m", (plurals,))
        add("n", (single, *members))
        add("m", (lexicon.plural(word) for word in members))
    add("m", (lexicon.plural(word) for word in lexicon.PLURALS.all))
    mass = ("food", "product", "mineral", "fear", "ingredient")
    for name, relation in RELATIONS.items():
        add("m" if name in mass else "" if name == "color" else "n", relation.values.all)
        if name not in (*mass, "color"):
            add("m", (lexicon.plural(word) for word in relation.values.all))
    add("mn", lexicon.DISHES.all)
    add("eq", (*lexicon.NUMBERS, *lexicon.DAYS, *lexicon.MONTHS))
    for verb in lexicon.VERBS.all:
        present, past = verb.split("/")
        add("v", (present, past))
        add("b", (present.removesuffix("s"), present.removesuffix("es")))
    add("b", (harm.split("/")[0] for harm in lexicon.HARMS.all))
    add("n", lexicon.INSULTS.all)
    add("a", lexicon.INSULTING.all)
    add("i", lexicon.CURSES)
    return classes


def _forms(verb: str) -> tuple[tuple[str, str], ...]:
    """The regular forms of a verb, each with its class; forms that do not exist do no harm."""
    stem = verb.removesuffix("e")
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return ("v", verb[:-1] + "ies"), ("v", verb[:-1] + "ied"), ("g", verb + "ing")
    third = verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "o", "z")) else "s")
    return ("v", third), ("v", stem + "ed"), ("g", stem + "ing")


def _symbol_table() -> tuple[dict[str, str], str, dict[str, str]]:
    """Symbol of each word, symbol of an unknown word, and the symbols that may stand for each class."""
    classes = _world_classes()
    for letter, words in _COMMON.items():
        for word in words.split():
            classes[word] += letter
    symbol_of_set: dict[frozenset[str], str] = {}

    def symbol(letters: str) -> str:
        # Characters from here on are letters of no alphabet that a regular expression treats in a special way.
        return symbol_of_set.setdefault(frozenset(letters), chr(0x4E00 + len(symbol_of_set)))

    for word in _COMMON["b"].split():
        for letter, form in _forms(word):
            classes[form] += letter
    unknown = symbol(UNKNOWN)
    table = {word: symbol(letters) for word, letters in classes.items()}
    members = {c: "".join(s for letters, s in symbol_of_set.items() if c in letters) for c in CLASSES}
    return table, unknown, members


SYMBOL_OF, SYMBOL_OF_UNKNOWN, SYMBOLS_OF_CLASS = _symbol_table()


def symbols(tokens: Sequence[str]) -> str:
    """One character per token: a word's symbol, or the mark of punctuation itself."""
    symbol_of = SYMBOL_OF
    return "".join([symbol_of.get(token) or _symbol_of_other(token) for token in tokens])


def _symbol_of_other(token: str) -> str:
    if not token[0].isalpha():
        return token
    # "diana's mirror": a name with 's determines a noun, as `her` does.
    return SYMBOL_OF["their"] if token.endswith("'s") else SYMBOL_OF_UNKNOWN


def has_class(word: str, classes: str) -> bool:
    """Whether the word, known or not, may be of one of the classes."""
    symbol = SYMBOL_OF.get(word, SYMBOL_OF_UNKNOWN)
    return any(symbol in SYMBOLS_OF_CLASS[c] for c in classes)
