"""Labs for tests: one shared by the whole session, and own ones for tests that kill or damage."""

import itertools
import os
import re

import pytest

pytest.register_assert_rewrite("lab", "pcp")

import lab as lab_module  # noqa: E402

LOG_LINES_SHOWN = 60
SANITIZER_MARK = re.compile(r"Sanitizer|runtime error:")


@pytest.fixture(scope="session", autouse=True)
def root_only():
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


def started(labs, config):
    new = lab_module.Lab()
    labs.append(new)
    return new.up(config)


def end(labs):
    """Takes all down; what a sanitizer found, leaks at an ordinary stop included, is a failure."""
    findings = []
    for each in labs:
        if each.pid():
            each.tool("stop", check=False)
        findings += [line for line in each.log().splitlines() if SANITIZER_MARK.search(line)]
        each.down()
    assert not findings


@pytest.fixture(scope="session")
def session_lab(root_only):
    labs = []
    try:
        yield started(labs, lab_module.configuration())
    finally:
        end(labs)


@pytest.fixture(scope="module")
def module_labs(root_only):
    """Makes labs for all tests of a module: module_labs(nat_pmp=False, ...)."""
    labs = []
    yield lambda **server: started(labs, lab_module.configuration(**server))
    end(labs)


@pytest.fixture(scope="module")
def module_lab(request, module_labs):
    """One lab for the tests of a module that names its settings in LAB_SETTINGS."""
    return module_labs(**request.module.LAB_SETTINGS)


@pytest.fixture
def lab(request):
    """The module's lab if it has one, else the session's; the daemon must outlive the test."""
    own = hasattr(request.module, "LAB_SETTINGS")
    shared = request.getfixturevalue("module_lab" if own else "session_lab")
    request.node.labs = [shared]
    before = shared.pid()
    assert before, "holdfastd does not run"
    yield shared
    assert shared.pid() == before, "holdfastd ended during the test"


@pytest.fixture
def new_lab(request):
    """Makes labs of the test's own: new_lab(lifetime_min=120, ...)."""
    labs = request.node.labs = []

    def make(top=None, **server):
        return started(labs, lab_module.configuration(top, **server))

    yield make
    end(labs)


@pytest.fixture(scope="session")
def port_numbers():
    # Below the masquerade's ports, so that a number can be suggested as external port too.
    return itertools.count(2000)


@pytest.fixture
def port(port_numbers):
    return next(port_numbers)


@pytest.fixture
def ports(port_numbers):
    return lambda count: [next(port_numbers) for _ in range(count)]


@pytest.fixture
def client(lab):
    new = lab.host.client()
    yield new
    new.close()


@pytest.fixture
def client6(lab):
    new = lab.host.client6()
    yield new
    new.close()


@pytest.fixture
def client2(lab):
    new = lab.host2.client()
    yield new
    new.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for each in getattr(item, "labs", []):
            lines = each.log().splitlines()[-LOG_LINES_SHOWN:]
            report.sections.append((f"log of holdfastd in {each.name}", "\n".join(lines)))
