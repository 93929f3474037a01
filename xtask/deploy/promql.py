"""Reads the PromQL of Prometheus 2.42, and finds the metrics and labels that an expression uses.

It finds the faults that need no server: unknown names, unknown functions, and operands whose labels can
never match. An expression that it does not understand is a fault too, so that nothing passes unchecked.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

# Labels that Prometheus, or its operator in Kubernetes, adds to scraped samples.
TARGET_LABELS = frozenset({"job", "instance", "namespace", "service", "pod", "container", "endpoint"})
# Series that Prometheus itself creates.
OWN_SERIES = {"up": TARGET_LABELS, "ALERTS": TARGET_LABELS | {"alertname", "alertstate", "severity"}}

TOKEN = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    | (?P<duration>(?:[0-9]+(?:ms|[smhdwy]))+)(?![A-Za-z0-9_.])
    | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_.])
    | (?P<variable>\$\{\w+(?::\w+)?\}|\$\w+)
    | (?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){}\[\],@])
    """,
    re.VERBOSE,
)
# Weakest binding first; the operators of a line have the same precedence.
BINARY = (
    {"or"},
    {"and", "unless"},
    {"==", "!=", "<=", "<", ">=", ">"},
    {"+", "-"},
    {"*", "/", "%", "atan2"},
    {"^"},
)
SETS = {"and", "or", "unless"}
COMPARISONS = BINARY[2]
AGGREGATIONS = {
    *("sum", "min", "max", "avg", "group", "stddev", "stdvar", "count"),
    *("count_values", "bottomk", "topk", "quantile"),
}
# Aggregations with a parameter before the vector.
WITH_PARAMETER = {"count_values", "bottomk", "topk", "quantile"}
# Functions whose answer has the labels of their vector, except those in `BARE`.
FUNCTIONS = {
    *("abs", "ceil", "floor", "round", "sgn", "sqrt", "exp", "ln", "log2", "log10"),
    *("clamp", "clamp_max", "clamp_min", "sort", "sort_desc", "timestamp"),
    *("rate", "irate", "increase", "delta", "idelta", "deriv", "changes", "resets", "predict_linear"),
    *(f"{name}_over_time" for name in ("avg", "min", "max", "sum", "count", "last", "present")),
    *(f"{name}_over_time" for name in ("stddev", "stdvar", "quantile")),
    *("histogram_quantile", "absent", "absent_over_time", "vector", "scalar", "time"),
}
# Functions whose answer has no known label.
BARE = {"absent", "absent_over_time", "vector", "scalar", "time"}


class PromqlError(Exception):
    """The expression is wrong, or is not understood."""


@dataclass(frozen=True)
class Metric:
    """A metric's labels and their values."""

    labels: frozenset[str]
    values: dict[str, frozenset[str]] = field(default_factory=dict)
    is_sampled: bool = True


@dataclass(frozen=True)
class Token:
    """A token and its kind."""

    kind: str
    text: str


@dataclass(frozen=True)
class Answer:
    """The result of an expression: the labels of its series, or a number."""

    labels: frozenset[str] = frozenset()
    is_number: bool = False


END = Token("end", "the end")
NUMBER = Answer(is_number=True)


def tokens(text: str) -> list[Token]:
    """The tokens of an expression."""
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise PromqlError(f"`{text[at : at + 20]}` is not PromQL")
        at = match.end()
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group()))
    return found


def labels_of(text: str, known: Callable[[str], Metric | None]) -> frozenset[str]:
    """The labels of an expression's answer. `known` looks up metrics."""
    reader = _Reader(text, known)
    try:
        return reader.whole().labels
    except PromqlError as fault:
        if not reader.unsampled:
            raise
        raise PromqlError(f"{fault}; {_list(frozenset(reader.unsampled))} has no sample") from None


def variable_labels_of(text: str, known: Callable[[str], Metric | None]) -> frozenset[str]:
    """The labels of the query of a dashboard's variable: `label_values(SELECTOR, LABEL)`."""
    return _Reader(text, known).label_values()


class _Reader:
    def __init__(self, text: str, known: Callable[[str], Metric | None]) -> None:
        self.rest = tokens(text)
        self.known = known
        self.metrics = 0
        self.unsampled: set[str] = set()

    def whole(self) -> Answer:
        answer = self.binary(0)
        self.end()
        return answer

    def label_values(self) -> frozenset[str]:
        self.take("label_values", "(")
        answer = self.selector(self.word())
        self.take(",")
        label = self.word()
        self.take(")")
        self.end()
        if label not in answer.labels:
            raise PromqlError(f"asks for the label {label}, which is not there")
        return frozenset({label})

    def end(self) -> None:
        if self.rest:
            raise PromqlError(f"`{self.rest[0].text}` is more than an expression")
        if not self.metrics:
            raise PromqlError("asks for no metric")

    # ── words ────────────────────────────────────────────────────────────────────────────────────

    def peek(self) -> Token:
        return self.rest[0] if self.rest else END

    def next(self) -> Token:
        return self.rest.pop(0) if self.rest else END

    def is_at(self, *texts: str) -> bool:
        token = self.peek()
        return token.kind in ("word", "sign") and token.text in texts

    def has(self, text: str) -> bool:
        found = self.is_at(text)
        if found:
            self.next()
        return found

    def take(self, *texts: str) -> None:
        for text in texts:
            token = self.next()
            if token.text != text or token.kind == "string":
                raise PromqlError(f"`{text}` is expected, not `{token.text}`")

    def word(self) -> str:
        token = self.next()
        if token.kind != "word":
            raise PromqlError(f"a name is expected, not `{token.text}`")
        return token.text

    def names(self) -> frozenset[str]:
        found = []
        self.take("(")
        while not self.has(")"):
            found.append(self.word())
            if not self.is_at(")"):
                self.take(",")
        return frozenset(found)

    # ── expressions ──────────────────────────────────────────────────────────────────────────────

    def binary(self, level: int) -> Answer:
        if level == len(BINARY):
            return self.unary()
        left = self.binary(level + 1)
        while self.is_at(*BINARY[level]):
            left = self.combine(left, self.next().text, level)
        return left

    def combine(self, left: Answer, operator: str, level: int) -> Answer:
        if operator in COMPARISONS:
            self.has("bool")
        matching, names, is_grouped, included = "", frozenset[str](), False, frozenset[str]()
        if self.is_at("on", "ignoring"):
            matching, names = self.word(), self.names()
            if self.is_at("group_left", "group_right"):
                is_grouped = True
                self.next()
                included = self.names() if self.is_at("(") else included
        right = self.binary(level + 1)
        if left.is_number or right.is_number:
            if operator in SETS:
                raise PromqlError(f"`{operator}` has a number beside it")
            return right if left.is_number else left
        if operator == "or":
            return Answer(left.labels | right.labels)
        return self.matched(left, right, operator, (matching, names, is_grouped, included))

    def matched(
        self,
        left: Answer,
        right: Answer,
        operator: str,
        how: tuple[str, frozenset[str], bool, frozenset[str]],
    ) -> Answer:
        matching, names, is_grouped, included = how
        if matching == "on":
            missing = names - (left.labels & right.labels)
            if missing:
                raise PromqlError(f"`{operator} on` names what one side has not: {_list(missing)}")
        else:
            ignored = names if matching else frozenset[str]()
            other = (left.labels - ignored) ^ (right.labels - ignored)
            if other:
                raise PromqlError(f"the sides of `{operator}` never match: one alone has {_list(other)}")
        if operator in SETS or is_grouped:
            return Answer(left.labels | included)
        return Answer(names if matching == "on" else left.labels - names)

    def unary(self) -> Answer:
        if self.is_at("-", "+"):
            self.next()
            return self.unary()
        return self.suffixes(self.atom())

    def suffixes(self, answer: Answer) -> Answer:
        while True:
            if self.has("["):
                self.duration()
                self.take("]")
            elif self.has("offset"):
                self.has("-")
                self.duration()
            else:
                return answer

    def duration(self) -> None:
        token = self.next()
        if token.kind not in ("duration", "variable"):
            raise PromqlError(f"a duration is expected, not `{token.text}`")

    def atom(self) -> Answer:
        token = self.next()
        if token.kind in ("number", "variable"):
            return NUMBER
        if token.text == "(" and token.kind == "sign":
            answer = self.binary(0)
            self.take(")")
            return answer
        if token.kind != "word":
            raise PromqlError(f"`{token.text}` is where a metric or a function should be")
        if token.text in AGGREGATIONS and self.is_at("(", "by", "without"):
            return self.aggregation(token.text)
        if self.is_at("("):
            return self.function(token.text)
        return self.selector(token.text)

    def aggregation(self, name: str) -> Answer:
        how = (self.word(), self.names()) if self.is_at("by", "without") else None
        self.take("(")
        added = frozenset[str]()
        if name in WITH_PARAMETER:
            token = self.next()
            added = frozenset({token.text.strip("\"'`")}) if name == "count_values" else added
            self.take(",")
        answer = self.binary(0)
        self.take(")")
        if how is None and self.is_at("by", "without"):
            how = (self.word(), self.names())
        if answer.is_number:
            raise PromqlError(f"`{name}` is given a number")
        kind, names = how or ("by", frozenset())
        missing = names - answer.labels
        if missing:
            raise PromqlError(f"`{name} {kind}` names what is not there: {_list(missing)}")
        if name in ("topk", "bottomk"):
            return answer
        return Answer((names if kind == "by" else answer.labels - names) | added)

    def function(self, name: str) -> Answer:
        if name not in FUNCTIONS:
            raise PromqlError(f"the function `{name}` is not known")
        self.take("(")
        given = []
        while not self.has(")"):
            given.append(self.binary(0))
            if not self.is_at(")"):
                self.take(",")
        vectors = [answer for answer in given if not answer.is_number]
        if name in BARE:
            return NUMBER if name in ("scalar", "time") else Answer()
        if len(vectors) != 1:
            raise PromqlError(f"`{name}` takes one vector, not {len(vectors)}")
        if name == "histogram_quantile":
            if "le" not in vectors[0].labels:
                raise PromqlError("`histogram_quantile` is given what has no `le`")
            return Answer(vectors[0].labels - {"le"})
        return vectors[0]

    def selector(self, name: str) -> Answer:
        self.metrics += 1
        metric = self.known(name)
        if metric is None:
            raise PromqlError(f"{name} is not in the scrape")
        if not metric.is_sampled:
            self.unsampled.add(name)
        if self.has("{"):
            while not self.has("}"):
                self.matcher(name, metric)
                if not self.is_at("}"):
                    self.take(",")
        return Answer(metric.labels)

    def matcher(self, name: str, metric: Metric) -> None:
        label, sign, value = self.word(), self.next(), self.next()
        if sign.text not in ("=", "!=", "=~", "!~") or value.kind != "string":
            raise PromqlError(f"{name} has a matcher that is none: {label}{sign.text}{value.text}")
        if label not in metric.labels:
            raise PromqlError(f"{name} has no label {label}")
        values = metric.values.get(label)
        words = value.text[1:-1].split("|" if sign.text.endswith("~") else "\0")
        # Values with a pattern or a variable cannot be compared with single values.
        if values is not None and all(re.fullmatch(r"\w+", word) for word in words):
            missing = frozenset(words) - values
            if missing:
                raise PromqlError(f"{name} has no {label} {_list(missing)}")


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
