"""The Epoch tells clients whether the server lost what they rely on (RFC 6887 s8.5)."""

import shutil

import lab as lab_module
import pcp
from lab import wait_for
from pcp import UDP, new_nonce


def seconds_later(client, answer, seconds):
    wait_for(lambda: client.announce().received - answer.received >= seconds, what="time going on")


# [R-6887-8.5-1]
def test_epoch_advances_one_per_second(lab, client):
    first = client.announce()
    seconds_later(client, first, 2)
    second = client.announce()
    assert abs((second.epoch - first.epoch) - (second.received - first.received)) <= 1


# [R-6887-7.2-5]
def test_every_answer_carries_the_epoch(lab, client, port):
    now = client.announce().epoch
    whole = pcp.map_request(client.address, new_nonce(), UDP, port)
    for octets in (whole, whole[:56], b"\x09" + whole[1:], whole + pcp.option(64)):
        assert 0 <= client.exchange(octets).epoch - now <= 2


def test_first_start_begins_at_zero(new_lab):
    lab = new_lab()
    assert lab.host.client().announce().epoch <= 10
    epoch = lab.status()["epoch"]
    assert (epoch["state"], epoch["reason"]) == ("reset", "new-state")


# [R-6887-8.5-1]
def test_epoch_goes_on_over_stops_and_kills(new_lab):
    """Also without a single mapping: nothing was lost."""
    lab = new_lab()
    client = lab.host.client()
    first = client.announce()
    seconds_later(client, first, 3)
    for end in (lab.stop, lab.kill, lab.kill):
        before = client.announce()
        end()
        lab.start()
        after = client.announce()
        assert after.epoch >= 3
        assert pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)
        epoch = lab.status()["epoch"]
        assert (epoch["state"], epoch["reason"]) == ("continued", "same-boot")
    assert abs((after.epoch - first.epoch) - (after.received - first.received)) <= 2
    assert abs(lab.status()["epoch"]["seconds"] - client.announce().epoch) <= 1


# [R-6887-8.5-2]
def test_lost_state_directory_gives_epoch_zero(new_lab):
    lab = new_lab()
    client = lab.host.client()
    client.granted(UDP, 5000)
    before = client.announce()
    seconds_later(client, before, 4)
    lab.kill()
    shutil.rmtree(lab.state)
    lab.start()
    after = client.announce()
    assert after.epoch < before.epoch + 3
    assert not pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)
    epoch = lab.status()["epoch"]
    assert (epoch["state"], epoch["reason"]) == ("reset", "new-state")
    assert lab.mappings() == []
    assert lab.assert_kernel_equals_list() == {}


# [R-6887-8.5-2]
def test_volatile_mode_starts_from_zero_each_time(new_lab):
    lab = new_lab()
    client = lab.host.client()
    lab.stop()
    lab.start("--volatile")
    assert lab.status()["mode"] == "volatile"
    first = client.granted(UDP, 5000)
    seconds_later(client, first, 4)
    lab.kill()
    lab.start("--volatile")
    after = client.announce()
    assert not pcp.epoch_is_valid(first.epoch, first.received, after.epoch, after.received)
    epoch = lab.status()["epoch"]
    assert (epoch["state"], epoch["reason"]) == ("reset", "volatile")
    # A mapping that nobody knows any more must not go on in the kernel.
    assert lab.assert_kernel_equals_list() == {}


# [R-6887-8.5-3]
def test_external_address_changed_while_down_resets_the_epoch(new_lab):
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    before = client.granted(UDP, 5000, nonce, external_port=7000)
    seconds_later(client, before, 4)
    lab.stop()
    lab.gateway.run("ip", "address", "delete", "203.0.113.1/24", "dev", "wan0")
    lab.gateway.run("ip", "address", "add", "203.0.113.7/24", "dev", "wan0")
    lab.start()
    after = client.granted(UDP, 5000, nonce)
    assert (after.external_address, after.external_port) == ("203.0.113.7", 7000)
    assert not pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)
    lab.assert_kernel_equals_list()


# [R-6887-8.5-4]
def test_clear_restarts_the_epoch_of_those_concerned_only(new_lab):
    """And keeps it that way over a kill (draft-boucadair-pcp-failure-06 s3.2)."""
    lab = new_lab()
    client, client2 = lab.host.client(), lab.host2.client()
    before, before2 = client.granted(UDP, 5000), client2.granted(UDP, 5000)
    seconds_later(client, before, 4)
    assert lab.ctl_json("clear", "--subscriber", "10.77.0.2") == {"cleared": 1}
    after, after2 = client.announce(), client2.announce()
    assert after.epoch <= 1
    assert not pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)
    assert pcp.epoch_is_valid(before2.epoch, before2.received, after2.epoch, after2.received)
    lab.kill()
    lab.start()
    again, again2 = client.announce(), client2.announce()
    assert pcp.epoch_is_valid(after.epoch, after.received, again.epoch, again.received)
    assert pcp.epoch_is_valid(after2.epoch, after2.received, again2.epoch, again2.received)
    assert again2.epoch - again.epoch >= 3


def test_state_put_back_from_an_older_moment(new_lab, tmp_path):
    """A rolled back state directory of the same boot.

    Its clock sample is plausible, so the Epoch goes on from the older moment and time is right.
    Mappings made after the copy are not known, and their elements leave the kernel at the start.
    """
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    old = client.granted(UDP, 5000, nonce, external_port=7000)
    lab.stop()
    shutil.copytree(lab.state, tmp_path / "copy")
    lab.start()
    client.granted(UDP, 5001, nonce, external_port=7001)
    lab.stop()
    shutil.rmtree(lab.state)
    shutil.copytree(tmp_path / "copy", lab.state)
    lab.start()
    listed = lab.mappings()
    assert [m["external"] for m in listed] == [f"{lab_module.EXTERNAL}:7000"]
    now = client.announce()
    assert abs(listed[0]["lifetime_s"] - (old.lifetime - (now.received - old.received))) <= 2
    assert pcp.epoch_is_valid(old.epoch, old.received, now.epoch, now.received)
    lab.assert_kernel_equals_list()
