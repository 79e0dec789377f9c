"""Grades by what can be checked: one point each for five things that a good chain has.

1. the final answer is right, as the chain says or by the reward that the recipe calls accuracy;
2. the think template is kept;
3. the chain states at least one step of arithmetic;
4. all that it states holds;
5. its last step yields its final answer.

With a wrong answer the grade is 1 at most. The paper names no scorer (section 2.2); the points are
ours.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace

from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rewards.functions.choice import named_options, options_of
from rewards.functions.custom import CustomTask
from rewards.math.arithmetic import EquationCheck
from rewards.math.comparison import MathComparison, clean_gold, extract_comparison, unmatchable
from rewards.quality.chains import WRONG_ANSWER, GradedChain, Quality
from rewards.registry import INLINE, check_names, rule_of
from rewards.text.answer import final_answer
from rewards.text.equations import stated_equations
from rewards.text.normalise import normalise
from rewards.verifier.pool import VerifierPool
from rl.console.errors import UserError
from rl.data.records import Verdict
from rl.data.thinking import template_fault

_AHEAD = 64
"""Chains under way for each verifier process."""
_MOST_EQUATIONS = 1000


def grade_by_rules(chains: Iterable[GradedChain], reward: RewardConfig) -> Iterator[Quality]:
    """The grade of each chain, in order, as they come.

    Args:
        reward: its accuracy says what is right; its verifier processes, which are killed at their
            deadline, do the arithmetic.

    Raises:
        UserError: accuracy is no rule, or not known.
    """
    check_names(reward)
    if reward.accuracy == "judge":
        raise UserError(
            "quality.kind=rules with reward.accuracy=judge: a judge is no rule; name a rule that "
            "says which answers are right, or set quality.kind=judge"
        )
    return _graded(chains, reward)


def _graded(chains: Iterable[GradedChain], reward: RewardConfig) -> Iterator[Quality]:
    pool = VerifierPool(reward)
    begun: deque[_Checks] = deque()
    try:
        for chain in chains:
            begun.append(_begin(chain, reward, pool))
            if len(begun) > _AHEAD * reward.processes:
                yield begun.popleft().quality()
        while begun:
            yield begun.popleft().quality()
    finally:
        pool.close()


@dataclass(frozen=True, slots=True)
class _Checks:
    """What one chain is looked at for, each verdict there or on its way."""

    answer: Future[Verdict]
    fault: str
    """What breaks the think template; empty where it is kept."""
    steps: int
    arithmetic: Future[Verdict]
    last: Future[Verdict]

    def quality(self) -> Quality:
        """Wait for the verdicts and add the points up."""
        answer, arithmetic, last = (f.result() for f in (self.answer, self.arithmetic, self.last))
        if not answer.counts:
            return Quality(None, f"{answer.cause}: {answer.detail}")
        right = answer.cause == "correct"
        found = (
            ("right answer" if right else f"answer {answer.cause}: {answer.detail}", right),
            (self.fault or "template kept", not self.fault),
            (f"{self.steps} steps of arithmetic", self.steps > 0),
            (arithmetic.detail, arithmetic.cause == "correct"),
            (last.detail, last.cause == "correct"),
        )
        points = sum(point for _, point in found)
        reason = "; ".join(f"{what} ({int(point)})" for what, point in found if what)
        return Quality(points if right else min(points, WRONG_ANSWER), reason)


def _begin(chain: GradedChain, reward: RewardConfig, pool: VerifierPool) -> _Checks:
    chain = replace(chain, problem=chain.problem.without_images())
    # Nobody has counted the tokens; no rule that says what is right asks for them.
    completion = Completion(chain.text, num_tokens=0, max_tokens=0, finish_reason="stop")
    equations = tuple(stated_equations(chain.text))
    if not equations:
        arithmetic = last = _there(Verdict(0.0, "no_answer"))
    elif len(equations) > _MOST_EQUATIONS:
        many = f"{len(equations)} steps, over {_MOST_EQUATIONS}, are not checked"
        arithmetic, last = _there(Verdict(0.0, "unparsable", many)), _there(Verdict(0.0, "wrong"))
    else:
        arithmetic = pool.submit(EquationCheck(equations))
        last = _last_step(chain, equations[-1].sides[-1], reward, pool)
    return _Checks(
        _answer(chain, completion, reward, pool),
        template_fault(chain.text, reward.thinking),
        len(equations),
        arithmetic,
        last,
    )


def _answer(
    chain: GradedChain, completion: Completion, reward: RewardConfig, pool: VerifierPool
) -> Future[Verdict]:
    """Whether the final answer is right."""
    if chain.right is not None:
        return _there(Verdict(float(chain.right), "correct" if chain.right else "wrong"))
    rule = rule_of(reward.accuracy, chain.problem)
    if rule in INLINE:
        return _there(INLINE[rule](reward)(chain.problem, completion))
    if rule in reward.custom:
        return pool.submit(CustomTask(reward.custom[rule], chain.problem, completion, share=True))
    said = extract_comparison(chain.problem, completion, reward.math, reward.thinking)
    return _there(said) if isinstance(said, Verdict) else pool.submit(said)


def _last_step(
    chain: GradedChain, value: str, reward: RewardConfig, pool: VerifierPool
) -> Future[Verdict]:
    """Whether `value` is the final answer, another form of it, or the option that it names."""
    answer = final_answer(chain.text, reward.thinking)
    letters = named_options(chain.problem, chain.text, reward.thinking) or ""
    options = options_of(chain.problem) or {}
    other = chain.problem.gold if chain.right else ()
    said = [answer, *other, *(options.get(letter) for letter in letters)]
    forms = tuple(clean_gold(form) for form in said if form)
    readable = tuple(f for f in forms if f and not unmatchable((f,), reward.math))
    if not readable:
        return _there(Verdict(0.0, "wrong", "no final answer that the last step could yield"))
    verdict = Future[Verdict]()

    def tell(done: Future[Verdict]) -> None:
        same = done.result().cause == "correct"
        what = "last step yields the answer" if same else f"last step is {value}, not the answer"
        verdict.set_result(Verdict(float(same), "correct" if same else "wrong", what))

    pool.submit(MathComparison(normalise(value), readable)).add_done_callback(tell)
    return verdict


def _there(verdict: Verdict) -> Future[Verdict]:
    future = Future[Verdict]()
    future.set_result(verdict)
    return future
