"""Samplers: one interface, results that depend on seed and trial number alone, what each learns."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import optuna
import pytest
import torch
from optuna.study import Study
from optuna.trial import TrialState

from nasnet_det.runs.threads import one_thread
from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.controller_sampler import AsyncControllerSampler, ControllerSampler
from nasnet_det.search.evolution_sampler import EvolutionSampler
from nasnet_det.search.ppo import PPOStats
from nasnet_det.search.samplers import SAMPLERS, build_sampler
from nasnet_det.search.trials import choices_to_params, get_distributions, params_to_choices
from nasnet_det.space import Choices, SearchSpace

SPACE = SearchSpace(2, ("identity", "conv_1x1", "sep_conv_3x3"), ("add",))
MINIBATCH = 5
# Small enough that each sampler leaves its random start behind within the test.
OPTS = (
    f"SEARCH.SAMPLER.MINIBATCH {MINIBATCH} SEARCH.EVOLUTION.POPULATION 10 "
    "SEARCH.PREDICTOR.NUM_STARTUP_TRIALS 5 SEARCH.PREDICTOR.NUM_CANDIDATES 20 "
    "SEARCH.PREDICTOR.NUM_MEASURED 0 "
    "SEARCH.EVOLUTION.TOURNAMENT 4 SEARCH.TPE.NUM_STARTUP_TRIALS 5 SEARCH.NSGA2.POPULATION 10"
).split()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


def make_sampler(name: str, seed: int = 0) -> optuna.samplers.BaseSampler:
    opts = [*OPTS, "SEARCH.SAMPLER.NAME", name, "SEARCH.SEED", str(seed)]
    return build_sampler(get_search_config(opts=opts), SPACE)


def make_study(
    sampler: optuna.samplers.BaseSampler, storage: optuna.storages.BaseStorage | None = None
) -> Study:
    return optuna.create_study(sampler=sampler, direction="maximize", storage=storage)


def reward_of(choices: Choices) -> float:
    """High for the first choices."""
    return -sum(choices) / len(choices)


def run(
    study: Study, num_minibatches: int, order: Callable[[list], list] = lambda trials: trials
) -> list[Choices]:
    """Ask for whole minibatches and tell each in some order; trial 7 fails."""
    for _ in range(num_minibatches):
        trials = [study.ask(get_distributions(SPACE)) for _ in range(MINIBATCH)]
        for trial in order(trials):
            if trial.number == 7:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, reward_of(params_to_choices(SPACE, trial.params)))
    return [params_to_choices(SPACE, t.params) for t in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_depend_on_seed_and_number_alone(name: str) -> None:
    """The results come back in any order, as from several workers."""
    rng = random.Random(0)
    wanted = run(make_study(make_sampler(name)), 8)
    shuffled = run(make_study(make_sampler(name)), 8, lambda t: rng.sample(t, len(t)))
    assert shuffled == wanted
    assert run(make_study(make_sampler(name, seed=1)), 8) != wanted
    assert len(set(wanted)) > MINIBATCH


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_new_sampler_continues_a_stored_study(name: str) -> None:
    wanted = run(make_study(make_sampler(name)), 6)
    storage = optuna.storages.InMemoryStorage()
    run(make_study(make_sampler(name), storage), 4)
    study = optuna.load_study(study_name=None, storage=storage, sampler=make_sampler(name))
    assert run(study, 2) == wanted


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_copied_trial_by_trial_continues_alike(name: str) -> None:
    """So a study in memory can be rebuilt from a storage that is too slow to be asked."""
    study = make_study(make_sampler(name))
    run(study, 6)
    other = make_study(make_sampler(name))
    for trial in study.get_trials(deepcopy=False):
        other.add_trial(trial)
    assert run(other, 2) == run(study, 2)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "random"])
def test_samplers_find_more_reward_than_at_random(name: str) -> None:
    choices = run(make_study(make_sampler(name)), 40)
    rewards = [reward_of(c) for c in choices]
    assert np.mean(rewards[-50:]) > np.mean(rewards[:25]) + 0.1


def test_random_proposals_are_uniform() -> None:
    study = make_study(make_sampler("random"))
    choices = run(study, 200)
    for place, number in enumerate(SPACE.num_choices):
        counts = Counter(c[place] for c in choices)
        for choice in range(number):
            expected = 1000 / number
            assert abs(counts[choice] - expected) < 4.5 * (expected * (1 - 1 / number)) ** 0.5 + 1


def test_nsga2_works_for_two_goals() -> None:
    study = optuna.create_study(sampler=make_sampler("nsga2"), directions=["maximize", "minimize"])
    for _ in range(150):
        trial = study.ask(get_distributions(SPACE))
        choices = params_to_choices(SPACE, trial.params)
        study.tell(trial, [float(sum(choices[::2])), float(sum(choices[1::2]))])
    first, last = (
        [t.values[0] - t.values[1] for t in study.trials[a:b]] for a, b in ((0, 30), (120, 150))
    )
    assert np.mean(last) > np.mean(first) + 2


@pytest.mark.parametrize("name", ["controller", "evolution"])
def test_samplers_of_one_reward_refuse_other_goals(name: str) -> None:
    for directions in (["minimize"], ["maximize", "minimize"]):
        study = optuna.create_study(sampler=make_sampler(name), directions=directions)
        with pytest.raises(ValueError, match="one goal to maximize, got directions .'m"):
            study.ask(get_distributions(SPACE))


def test_predictor_refuses_a_second_goal_to_maximize() -> None:
    for directions in (["minimize"], ["maximize", "maximize"]):
        study = optuna.create_study(sampler=make_sampler("predictor"), directions=directions)
        with pytest.raises(ValueError, match="wants a study with at first one goal to maximize"):
            study.ask(get_distributions(SPACE))


@pytest.mark.parametrize("name", ["controller", "evolution"])
def test_next_minibatch_waits_for_the_one_before(name: str) -> None:
    study = make_study(make_sampler(name))
    trials = [study.ask(get_distributions(SPACE)) for _ in range(MINIBATCH)]
    for trial in trials[1:]:
        study.tell(trial, 0.5)
    with pytest.raises(ValueError, match="wanted trials 0 to 4 finished before number 5 .* got 4"):
        study.ask(get_distributions(SPACE))


def controller_of(study: Study) -> ControllerSampler:
    assert isinstance(study.sampler, ControllerSampler)
    return study.sampler


def test_controller_draws_a_minibatch_from_what_it_learned_before() -> None:
    study = make_study(make_sampler("controller"))
    updates: list[tuple[int, PPOStats]] = []
    controller_of(study).on_update = lambda number, stats: updates.append((number, stats))
    choices = run(study, 3)
    assert [number for number, _ in updates] == [0, 1]
    rewards = [reward_of(c) for i, c in enumerate(choices) if i != 7]  # the failed one
    assert updates[0][1].mean_reward == pytest.approx(np.mean(rewards[:5]))
    assert updates[1][1].mean_reward == pytest.approx(np.mean(rewards[5:9]))

    other = controller_of(make_study(make_sampler("controller")))
    with one_thread():
        other.ppo.update(torch.tensor(choices[:5]), rewards[:5])
        other.ppo.update(torch.tensor([choices[i] for i in (5, 6, 8, 9)]), rewards[5:9])
    for one, two in zip(
        other.ppo.controller.parameters(),
        controller_of(study).ppo.controller.parameters(),
        strict=True,
    ):
        assert torch.equal(one, two)


def test_controller_learns_the_same_with_any_number_of_threads() -> None:
    num_threads = torch.get_num_threads()
    space = SearchSpace()  # large enough that torch would share the work
    weights = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            study = make_study(build_sampler(get_search_config(), space))
            for _ in range(2 * 20 + 1):
                trial = study.ask(get_distributions(space))
                study.tell(trial, reward_of(params_to_choices(space, trial.params)))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(num_threads)
        weights.append([p.detach() for p in controller_of(study).ppo.controller.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*weights, strict=True))


def test_controller_continues_from_any_saved_state() -> None:
    study = make_study(make_sampler("controller"))
    states = []
    for _ in range(4):
        run(study, 1)
        states.append(copy.deepcopy(controller_of(study).state_dict()))
    wanted = run(study, 2)[-2 * MINIBATCH :]
    for state in states:
        other = make_study(make_sampler("controller"))
        for trial in study.get_trials(deepcopy=False)[: 4 * MINIBATCH]:
            other.add_trial(trial)
        controller_of(other).load_state_dict(state)
        assert run(other, 2)[-2 * MINIBATCH :] == wanted


def test_controller_ahead_of_the_study_is_refused() -> None:
    study = make_study(make_sampler("controller"))
    run(study, 3)
    other = make_study(study.sampler)
    with pytest.raises(ValueError, match="has learned 2 minibatches of 5 and can't go back to tri"):
        other.ask(get_distributions(SPACE))


def test_minibatch_without_rewards_teaches_nothing() -> None:
    study = make_study(make_sampler("controller"))
    for _ in range(MINIBATCH):
        study.tell(study.ask(get_distributions(SPACE)), state=TrialState.FAIL)
    run(study, 1)
    assert controller_of(study).num_learned == 1
    assert controller_of(study).ppo.num_updates == 0


def test_evolution_changes_one_decision_of_a_living_parent() -> None:
    study = make_study(make_sampler("evolution"))
    choices = run(study, 12)
    for number in range(15, len(choices)):  # the first that see 10 rewards
        first = number - number % MINIBATCH
        alive = [i for i in range(first) if i != 7][-10:]
        distances = [
            sum(a != b for a, b in zip(choices[number], choices[i], strict=True)) for i in alive
        ]
        assert 1 in distances, number


def test_evolution_takes_the_best_of_the_youngest() -> None:
    """With a tournament of a thousand the parent is the best that is alive, not the best ever."""
    sampler = EvolutionSampler(SPACE, population=5, tournament=1000, minibatch=MINIBATCH)
    study = make_study(sampler)
    lists = [SPACE.sample(random.Random(i)) for i in range(10)]
    rewards = [9.0, 0, 0, 0, 0, 1, 2, 5, 4, 3]
    for choices, reward in zip(lists, rewards, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params=choices_to_params(SPACE, choices),
                distributions=get_distributions(SPACE),
                value=reward,
            )
        )
    for number in range(10, 15):
        child = sampler.propose(study, number)
        assert sum(a != b for a, b in zip(child, lists[7], strict=True)) == 1


def test_mutation_reaches_every_other_value_of_every_decision() -> None:
    sampler = EvolutionSampler(SPACE)
    rng = np.random.default_rng(0)
    parent = SPACE.sample(random.Random(0))
    found = {
        (place, child[place])
        for child in (sampler.mutate(parent, rng) for _ in range(3000))
        for place in range(len(parent))
        if child[place] != parent[place]
    }
    assert len(found) == sum(number - 1 for number in SPACE.num_choices)


def test_pruned_trials_count_with_their_last_value() -> None:
    sampler = EvolutionSampler(SPACE, population=5, tournament=1000, minibatch=MINIBATCH)
    study = make_study(sampler)
    for number in range(MINIBATCH):
        trial = study.ask(get_distributions(SPACE))
        if number == 3:
            trial.report(0.9, step=0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, 0.5)
    parent = params_to_choices(SPACE, study.trials[3].params)
    child = sampler.propose(study, MINIBATCH)
    assert sum(a != b for a, b in zip(child, parent, strict=True)) == 1


def test_parameters_outside_the_space_are_refused() -> None:
    study = make_study(make_sampler("controller"))
    with pytest.raises(
        ValueError, match="'lr' with FloatDistribution.* is not in the search space"
    ):
        study.ask(get_distributions(SPACE)).suggest_float("lr", 0, 1)
    params = choices_to_params(SPACE, (0,) * 20)
    with pytest.raises(ValueError, match="another search space: wanted normal.0.op_1 .* got 'conv"):
        params_to_choices(SPACE, {**params, "normal.0.op_1": "conv_3x3"})


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("SEARCH.SAMPLER.NAME contoller", "unknown sampler 'contoller', did you mean 'controller'"),
        ("SEARCH.SEED -1", "wanted a seed of at least 0, got -1"),
        ("SEARCH.SAMPLER.MINIBATCH -1", "wanted a minibatch of at least 1, got -1"),
        ("SEARCH.SAMPLER.NAME evolution SEARCH.EVOLUTION.POPULATION -1", "got -1 and 10"),
        ("SEARCH.SPACE.NUM_BLOCKS 0", "num_blocks: wanted at least 1, got 0"),
    ],
)
def test_impossible_config_is_refused(opts: str, sentence: str) -> None:
    cfg = get_search_config(opts=opts.split())
    with pytest.raises(ValueError, match=sentence):
        build_sampler(cfg, build_space(cfg))


def test_every_key_of_a_sampler_reaches_it() -> None:
    text = (
        "SEARCH.EVOLUTION.POPULATION 7 SEARCH.EVOLUTION.TOURNAMENT 3 SEARCH.SAMPLER.MINIBATCH 4 "
        "SEARCH.TPE.NUM_STARTUP_TRIALS 6 SEARCH.NSGA2.POPULATION 8 SEARCH.SEED 9 "
        "SEARCH.PREDICTOR.NUM_STARTUP_TRIALS 11 SEARCH.PREDICTOR.NUM_CANDIDATES 12 "
        "SEARCH.PREDICTOR.NUM_MEASURED 5 "
        "SEARCH.ASYNCHRONOUS True"
    )
    built = {
        name: build_sampler(
            get_search_config(opts=f"{text} SEARCH.SAMPLER.NAME {name}".split()), SPACE
        )
        for name in SAMPLERS
    }
    assert type(built["controller"]) is AsyncControllerSampler
    evolution = built["evolution"]
    assert (evolution.population, evolution.tournament, evolution.minibatch) == (7, 3, 4)
    assert evolution.asynchronous
    predictor = built["predictor"]
    assert (predictor.num_startup, predictor.num_candidates, predictor.minibatch) == (11, 12, 4)
    assert predictor.asynchronous
    assert predictor.num_measured == 5
    names = ("evolution", "predictor", "random", "tpe", "nsga2")
    assert {built[name].seed for name in names} == {9}
    assert built["tpe"]._build(0)._n_startup_trials == 6
    assert built["nsga2"]._build(0)._population_size == 8
