"""junit.xml: one test case per metric of the gate, for continuous integration.

Holds what both common schemas ask for: Apache Ant's (Windy Road's JUnit.xsd) and Jenkins's.
"""

from __future__ import annotations

from xml.etree import ElementTree

from evals.report.contents import Contents
from evals.report.svg import printable
from evals.report.verdicts import Row, Verdict


def as_junit(contents: Contents) -> str:
    """A suite per candidate. FAIL is a failure; INCONCLUSIVE an error, so that an undecided gate is not green."""
    root = ElementTree.Element("testsuites")
    for number, verdict in enumerate(contents.verdicts.values()):
        root.append(_suite(contents, verdict, number))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(contents: Contents, verdict: Verdict, number: int) -> ElementTree.Element:
    label = contents.labels.get(verdict.candidate, verdict.candidate)
    result = contents.results.get(verdict.candidate)
    rows = verdict.rows if _explains(verdict) else (*verdict.rows, _whole(verdict))
    failed = sum(row.outcome == "FAIL" for row in rows)
    passed = sum(row.outcome == "PASS" for row in rows)
    suite = ElementTree.Element(
        "testsuite",
        id=str(number),
        package="evals.gate",
        name=printable(label),
        timestamp=(result.created if result else "1970-01-01T00:00:00")[:19],
        hostname="localhost",
        tests=str(len(rows)),
        failures=str(failed),
        errors=str(len(rows) - failed - passed),
        time=f"{(result.seconds if result else None) or 0:.1f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    baseline = contents.labels.get(verdict.baseline, verdict.baseline)
    for name, value in (("outcome", verdict.outcome), ("baseline", baseline), ("alpha", verdict.alpha)):
        if value not in (None, ""):
            ElementTree.SubElement(properties, "property", name=name, value=printable(str(value)))
    for row in rows:
        _case(suite, row, label)
    ElementTree.SubElement(suite, "system-out").text = printable(f"{verdict.outcome}: {verdict.sentence}")
    ElementTree.SubElement(suite, "system-err")
    return suite


def _case(suite: ElementTree.Element, row: Row, label: str) -> None:
    classname = printable(f"{label}.{row.metric.split('.')[0]}")
    case = ElementTree.SubElement(suite, "testcase", name=printable(row.metric), classname=classname, time="0")
    if row.outcome != "PASS":
        kind = "failure" if row.outcome == "FAIL" else "error"
        message = printable(f"{row.words}: {row.why}")
        ElementTree.SubElement(case, kind, message=message, type=printable(row.outcome)).text = message


def _explains(verdict: Verdict) -> bool:
    """Whether the outcome of the whole follows from its rows; a metric without a rule can block a pass, too."""
    return bool(verdict.rows) and (verdict.outcome == "PASS" or bool(verdict.count(verdict.outcome)))


def _whole(verdict: Verdict) -> Row:
    """The verdict as a case of its own: without it the suite would look as if nothing had been wrong."""
    return Row("gate", "the gate", verdict.outcome, reason=verdict.sentence)
