"""Mistakes of journeys that are well-formed: what can never be, and what must not.

Each has a code, the place in the file, the mend and a witness: a made-up customer who
meets with it. It reads journeys alone; content is read in `authoring`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations

from activations.blueprint import (
    Branch,
    ExperimentSplit,
    Items,
    Journey,
    PlacedStep,
    asked_of_steps,
)
from activations.conditions import (
    Alternative,
    BackInStock,
    Condition,
    DidEvent,
    Drawn,
    EventPattern,
    HasIntent,
    HasMisstep,
    HasScore,
    HasTrait,
    InAudience,
    InPhase,
    MetMessage,
    OnArm,
    PriceDrop,
    Test,
    Vocabulary,
    alternatives,
    tests_of,
)
from activations.parts import Location, duration_text
from activations.registry import CHANNELS

# What a shop's own messages report of themselves: no journey begins by what it sends.
OWN_EVENT = re.compile(r"(sent|delivered|shown|impression|received)$")
# Moments in which somebody is after something, and may get it elsewhere.
WANTING = {
    *("browsing", "considering", "price_checking"),
    *("cart_abandoned", "checkout_abandoned"),
}
# Where a message rings: a phone, or whatever a push goes to.
INTERRUPTED = ("phone", "device_token")
CART = {"cart_abandoned", "checkout_abandoned"}


@dataclass(frozen=True)
class Mistake:
    """What is wrong in a journey: a code, where it stands, the mend and a witness."""

    code: str
    location: Location
    reason: str
    witness: str


def mistakes(journey: Journey, vocabulary: Vocabulary) -> Iterator[Mistake]:
    """All that is wrong in one journey, whose conditions may name a vocabulary."""
    yield from entry_mistakes(journey)
    yield from exit_mistakes(journey)
    yield from class_mistakes(journey)
    yield from reach_mistakes(journey)
    yield from branch_mistakes(journey.steps, ("steps",), [()])
    yield from offer_mistakes(journey)
    yield from asked_mistakes(journey, vocabulary)


def can_hold(alternative: Alternative) -> bool:
    """Whether somebody could pass all tests of an alternative at one moment."""
    return next(clashes(alternative), None) is None


def clashes(alternative: Alternative) -> Iterator[str]:
    """Why nobody passes all tests of an alternative, once per pair that clashes."""
    for test, negated in alternative:
        if not isinstance(test, DidEvent) or not test.without or negated:
            continue
        if test.within and test.within <= test.without.within:
            yield f"{test.event} is too old once {test.without.event} has had its time"
    for (one, is_not), (other, other_is_not) in combinations(alternative, 2):
        if one == other and is_not != other_is_not:
            yield f"{described(one)} would have to be so and not so"
        elif not is_not and not other_is_not and excludes(one, other):
            yield f"{described(one)} and {described(other)} exclude each other"


def excludes(one: Test, other: Test) -> bool:
    """Whether nobody passes both tests at one moment."""
    match one, other:
        case (HasIntent(), HasIntent()):
            return not set(one.intent) & set(other.intent)
        case (InPhase(), InPhase()):
            return not set(one.phase) & set(other.phase)
        case (HasScore(), HasScore()):
            return one.score == other.score and (
                one.at_most < other.at_least or other.at_most < one.at_least
            )
        case (Drawn(), Drawn()):
            return one.experiment == other.experiment and (
                one.until <= other.from_ or other.until <= one.from_
            )
        case (OnArm(), OnArm()):
            return one.branch == other.branch and one.arm != other.arm
    return False


def described(test: Test) -> str:
    """A test in a few words."""
    row = test.row()
    names = row.get("names")
    said = " or ".join(names) if isinstance(names, list) else str(row.get("name", ""))
    return f"{row['kind']} {said}".strip()


def why_not(condition: Sequence[Alternative]) -> str:
    """Why a condition holds of nobody, by its first alternative."""
    return next(reason for reason in clashes(condition[0]))


def entry_mistakes(journey: Journey) -> Iterator[Mistake]:
    """An entry that nobody meets, or that the journey itself brings about."""
    ways = journey.entry.alternatives
    place: Location = ("entry", "when") if journey.entry.when else ("entry",)
    if not any(map(can_hold, ways)):
        reason = why_not(ways)
        yield Mistake(
            "never-begins",
            place,
            f"nobody can begin: {reason}; take one of them out",
            f"Ada would begin only if {reason}",
        )
    for location, test in tests_of(journey.entry.when) if journey.entry.when else ():
        spelled = re.sub(r"[^a-z]", "", getattr(test, "event", "").lower())
        if isinstance(test, EventPattern) and OWN_EVENT.search(spelled):
            yield Mistake(
                "cyclic-entry",
                (*place, *location, "event"),
                f"{test.event} is what a message of ours reports, so the journey "
                f"would begin by itself; name what the person does",
                "Ada is sent a message, which begins the journey again",
            )


def exit_mistakes(journey: Journey) -> Iterator[Mistake]:
    """An exit that ends nothing, ends all at once, or misses what is wanted."""
    tests = [
        test
        for way in journey.entry.alternatives
        for test, negated in way
        if not negated
    ]
    goals = {goal.event for goal in journey.exit.goals}
    has_goal = "order" in journey.exit.when or bool(goals)
    wants = any(
        isinstance(test, PriceDrop | BackInStock)
        or (isinstance(test, HasIntent) and WANTING & set(test.intent))
        for test in tests
    )
    if wants and not has_goal and journey.message_class == "marketing":
        yield Mistake(
            "no-exit-on-goal",
            ("exit", "when") if "when" in journey.exit.model_fields_set else ("exit",),
            "the journey goes on once the person has what it is for; "
            "add order to exit.when, or an event to exit.goals",
            "Ada begins, orders an hour later and is still written to",
        )
    for test in tests:
        awaited = getattr(test, "without", None)
        if awaited and awaited.event not in goals:
            yield Mistake(
                "no-exit-on-goal",
                ("exit",),
                f"the entry waits for {awaited.event} in vain, and no goal ends the "
                f"journey when it comes; add it to exit.goals",
                f"Ada does {awaited.event} a day late and is still reminded of it",
            )
    kinds = {type(test) for test in tests}
    cart = any(isinstance(t, HasIntent) and CART & set(t.intent) for t in tests)
    for index, event in enumerate(journey.exit.when):
        place = ("exit", "when", index)
        if event == "audience_left" and InAudience not in kinds:
            yield Mistake(
                "exit-at-once",
                place,
                "the entry names no audience, so everybody has left it; name one, "
                "or take audience_left out",
                "Ada begins and has left in the same run",
            )
        if event == "cart_emptied" and not cart and DidEvent not in kinds:
            yield Mistake(
                "exit-at-once",
                place,
                "who begins need not have a cart, and leaves without one at once; "
                "begin by an abandoned cart, or take cart_emptied out",
                "Ada begins without a cart and has left in the same run",
            )
        if event == "resolved" and HasMisstep not in kinds:
            yield Mistake(
                "dead-exit",
                place,
                "no misstep begins the journey, so none is resolved; "
                "take resolved out, or begin by misstep: open",
                "Ada begins without a misstep; nothing of hers is put right",
            )
        if event == "misstep" and HasMisstep in kinds and len(kinds) == 1:
            yield Mistake(
                "dead-exit",
                place,
                "a misstep begins the journey and another one would end it; "
                "name resolved instead",
                "Ada has two parcels late, and hears of neither",
            )


def class_mistakes(journey: Journey) -> Iterator[Mistake]:
    """Marketing that calls itself service."""
    if journey.message_class == "marketing":
        return
    served = any(
        isinstance(test, HasMisstep)
        or (isinstance(test, HasIntent) and set(test.intent) <= {"converted"})
        or isinstance(test, DidEvent)
        for way in journey.entry.alternatives
        for test, negated in way
        if not negated
    )
    for placed in journey.messages:
        if placed.step.incentive:
            yield Mistake(
                "transactional-offer",
                (*placed.location, "incentive"),
                "an offer is marketing, and needs consent; take it out, or call the "
                "journey marketing",
                "Ada unsubscribed, and is sent an offer all the same",
            )
        interrupting = [
            channel
            for channel in placed.step.channels
            if CHANNELS[channel].address_type in INTERRUPTED
        ]
        if not served and interrupting:
            yield Mistake(
                "no-lawful-basis",
                (*placed.location, "channels"),
                "nothing that the person did or suffered calls for service here, and "
                f"{' or '.join(interrupting)} without consent has no lawful basis; "
                "call the journey marketing",
                f"Ada looked around, never agreed to {interrupting[0]} and is sent it",
            )


def reach_mistakes(journey: Journey) -> Iterator[Mistake]:
    """Steps that nobody can get."""
    for placed in journey.messages:
        if placed.step.only_if and not any(map(can_hold, placed.condition)):
            reason = why_not(placed.condition)
            yield Mistake(
                "unreachable-step",
                (*placed.location, "step"),
                f"nobody gets the step: {reason}; mend the condition, or take the "
                f"step out",
                f"Ada would get {placed.step.step} only if {reason}",
            )
        wait = placed.step.wait_for
        if wait and wait.timeout >= journey.exit.after:
            yield Mistake(
                "wait-outlasts-journey",
                (*placed.location, "wait_for"),
                f"the wait is over after {duration_text(wait.timeout)}, and exit.after "
                f"ends the journey after {duration_text(journey.exit.after)}; "
                f"shorten the timeout",
                f"Ada never does {wait.event}, and gets nothing more",
            )


def branch_mistakes(
    items: Items, location: Location, outer: list[Alternative]
) -> Iterator[Mistake]:
    """Sides of branches on which nobody is, and arms that change nothing."""
    for index, item in enumerate(items):
        here = (*location, index)
        if isinstance(item, Branch):
            for field, steps, held in (
                ("then", item.then, alternatives(item.if_)),
                ("else", item.else_, alternatives(item.if_, negated=True)),
            ):
                inner = [(*way, *more) for way in outer for more in held]
                if steps and not any(map(can_hold, inner)):
                    reason = why_not(inner)
                    yield Mistake(
                        "dead-branch",
                        (*here, field),
                        f"nobody is on this side: {reason}; mend the condition",
                        f"Ada is here only if {reason}",
                    )
                else:
                    yield from branch_mistakes(steps, (*here, field), inner)
            if not item.then and not item.else_:
                yield Mistake(
                    "dead-branch",
                    (*here, "branch"),
                    "the branch leads nowhere; give one side a step",
                    "Ada passes it, and all is as before",
                )
        elif isinstance(item, ExperimentSplit):
            written = [[step.model_dump() for step in arm.steps] for arm in item.arms]
            if all(arm == written[0] for arm in written):
                yield Mistake(
                    "dead-branch",
                    (*here, "experiment_split"),
                    "all arms are alike, so nothing is learned; let them differ",
                    "Ada and Bob are on two arms and are sent the same",
                )
            for number, arm in enumerate(item.arms):
                inner_place = (*here, "arms", number, "steps")
                yield from branch_mistakes(arm.steps, inner_place, outer)


def offer_mistakes(journey: Journey) -> Iterator[Mistake]:
    """Offers that undo one another for one person, or come before anything is said."""
    offered = [placed for placed in journey.messages if placed.step.incentive]
    for earlier, later in combinations(offered, 2):
        first, second = earlier.step.incentive, later.step.incentive
        assert first and second
        if first == second or not same_person(earlier, later):
            continue
        if first.code == second.code:
            reason = f"{first.code} means something else in {earlier.step.step}"
        elif (
            later.step.delay_from == "previous"
            and gap(journey, earlier, later) < first.valid_for
        ):
            reason = f"{first.code} of {earlier.step.step} still stands by then"
        else:
            continue
        yield Mistake(
            "contradicting-offers",
            (*later.location, "incentive"),
            f"{reason}; let one offer end before the next, or keep to one",
            f"Ada holds {first.code} ({first.percent}%) and {second.code} "
            f"({second.percent}%) at once",
        )
    begins = [test for way in journey.entry.alternatives for test, _ in way]
    is_stranger = any(
        isinstance(test, InPhase) and set(test.phase) == {"reintroduction"}
        for test in begins
    )
    opening = journey.messages[0]
    if is_stranger and opening.step.incentive:
        yield Mistake(
            "hard-sell",
            (*opening.location, "incentive"),
            "somebody who has been away is sold to in the first word; "
            "say first who you are, and offer later",
            "Ada has not been heard of for a year, and is offered a discount",
        )


def same_person(one: PlacedStep, other: PlacedStep) -> bool:
    """Whether somebody may get both steps."""
    return not any(
        mine.branch == others.branch and mine.arm != others.arm
        for mine in one.arms
        for others in other.arms
    )


def gap(journey: Journey, earlier: PlacedStep, later: PlacedStep) -> timedelta:
    """The shortest time between two steps, where none between them is passed over."""
    places = [placed.location for placed in journey.messages]
    between = journey.messages[
        places.index(earlier.location) + 1 : places.index(later.location) + 1
    ]
    return sum((placed.step.delay for placed in between), timedelta(0))


def asked_mistakes(journey: Journey, vocabulary: Vocabulary) -> Iterator[Mistake]:
    """Tests that ask for what there is not, or for what nobody may read."""
    places: list[tuple[Location, Condition]] = [
        *([(("entry", "when"), journey.entry.when)] if journey.entry.when else []),
        *asked_of_steps(journey.steps, ("steps",)),
    ]
    for place, condition in places:
        for location, test in tests_of(condition):
            here = (*place, *location)
            for field, reason in vocabulary.unknown(test):
                if isinstance(test, InAudience):
                    code, witness = "audience", f"Ada is in no {test.audience}"
                elif isinstance(test, HasTrait):
                    code, witness = "trait", f"no {test.trait} is known of Ada"
                else:
                    code, witness = "identifier", "Ada has none of that type"
                yield Mistake(
                    f"unknown-{code}",
                    (*here, *field),
                    reason,
                    f"{witness}, nor of anybody",
                )
            if (
                isinstance(test, MetMessage)
                and test.was == "opened"
                and not journey.open_tracking
            ):
                yield Mistake(
                    "opens-without-consent",
                    (*here, "was"),
                    "opens are read only of who agreed to open_tracking, so all others "
                    "count as not having opened; ask for clicked, or say "
                    "open_tracking: true in the journey if that is meant",
                    "Ada opens the message and never agreed to be watched at it",
                )
            if isinstance(test, DidEvent) and test.without and place[0] == "steps":
                yield Mistake(
                    "misplaced-without",
                    (*here, "without"),
                    "a step asks what has happened by then; write "
                    "all: [{event: …}, {not: {event: …}}]",
                    "Ada is asked for what she has still time to do",
                )


def shared_mistakes(journeys: Sequence[Journey]) -> Iterator[tuple[Journey, Mistake]]:
    """What two journeys say of one offer, or of one experiment, that cannot both be."""
    groups: dict[str, Journey] = {}
    for journey in journeys:
        if journey.group:
            other = groups.setdefault(journey.group.name, journey)
            if other.group and other.group.at_most != journey.group.at_most:
                yield (
                    journey,
                    Mistake(
                        "disagreeing-group",
                        ("group", "at_most"),
                        f"of {journey.group.name} {other.journey} lets "
                        f"{other.group.at_most} speak at a time; say the same in all "
                        f"of them",
                        f"Ada is in both journeys, and may hear of "
                        f"{journey.group.at_most} or of {other.group.at_most}",
                    ),
                )
    offers: dict[str, tuple[Journey, int]] = {}
    for journey in journeys:
        for placed in journey.messages:
            offer = placed.step.incentive
            if not offer:
                continue
            other, percent = offers.setdefault(offer.code, (journey, offer.percent))
            if percent != offer.percent and other is not journey:
                yield (
                    journey,
                    Mistake(
                        "contradicting-offers",
                        (*placed.location, "incentive"),
                        f"{offer.code} is {percent}% in {other.journey}; give this "
                        f"offer another code",
                        f"Ada is in both journeys, and {offer.code} is {percent}% and "
                        f"{offer.percent}%",
                    ),
                )
