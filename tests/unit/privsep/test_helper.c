#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "privsep/channel.h"
#include "privsep/helper.h"
#include "privsep/message.h"
#include "privsep_fixture.h"

/* A helper spoken to in octets, as a subverted engine would. */
struct bare {
    struct helper_channels channels;
    pid_t pid;
};

static struct bare bare_start(const struct fixture *fixture)
{
    struct bare bare;
    int fds[3][2];
    uint8_t data[CHANNEL_MESSAGE_SIZE];
    pid_t parent = getpid();
    for (int i = 0; i < 3; i++)
        assert_int_equal(channel_open(fds[i]), 0);
    bare.channels = (struct helper_channels){fds[0][0], fds[1][0], fds[2][0]};
    struct helper_channels theirs = {fds[0][1], fds[1][1], fds[2][1]};
    int lock_fd = dup(STDERR_FILENO);
    bare.pid = fork();
    assert_true(bare.pid >= 0);
    if (bare.pid == 0)
        helper_run(&fixture->options, &theirs, lock_fd, parent);
    close(lock_fd);
    for (int i = 0; i < 3; i++)
        close(fds[i][1]);
    ssize_t n = channel_receive(bare.channels.commands, data);
    struct reader reader = reader_init(data, n > 0 ? (size_t) n : 0);
    struct message_ready ready;
    assert_int_equal(reader_u8(&reader), MESSAGE_READY);
    message_get_ready(&reader, &ready);
    assert_true(message_is_whole(&reader));
    assert_int_equal(ready.stage, MESSAGE_STAGE_DONE);
    return bare;
}

/* Exit status, or minus the signal. */
static int bare_end(struct bare *bare)
{
    int status;
    close(bare->channels.commands);
    close(bare->channels.questions);
    close(bare->channels.news);
    assert_int_equal(waitpid(bare->pid, &status, 0), bare->pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* True when it ended; within the deadline it has to do that or to answer. */
static bool ends(int fd)
{
    uint8_t data[CHANNEL_MESSAGE_SIZE];
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&polled, 1, 10000), 1);
    return channel_receive(fd, data) == -EPIPE;
}

struct octets {
    uint8_t data[CHANNEL_MESSAGE_SIZE];
    size_t size;
};

static struct octets some_changes(enum message_type type, uint32_t n_announced, uint32_t n_put)
{
    struct octets octets;
    struct writer writer = writer_init(octets.data, sizeof(octets.data));
    writer_u8(&writer, (uint8_t) type);
    writer_u64(&writer, 1);
    writer_u32(&writer, n_announced);
    for (uint32_t i = 0; i < n_put; i++) {
        struct change change = {.has_after = true, .after = fixture_record(i)};
        message_put_change(&writer, &change);
    }
    octets.size = writer_position(&writer);
    return octets;
}

static struct octets a_reconcile(uint32_t n_announced, uint32_t n_put)
{
    struct octets octets;
    struct writer writer = writer_init(octets.data, sizeof(octets.data));
    struct nat_settings settings = fixture_settings();
    writer_u8(&writer, MESSAGE_RECONCILE);
    message_put_settings(&writer, &settings);
    writer_u64(&writer, 1);
    writer_u32(&writer, n_announced);
    for (uint32_t i = 0; i < n_put; i++) {
        struct mapping_record record = fixture_record(i);
        message_put_record(&writer, &record);
    }
    octets.size = writer_position(&writer);
    return octets;
}

static struct octets a_question(void)
{
    struct octets octets;
    struct writer writer = writer_init(octets.data, sizeof(octets.data));
    struct message_flow flow = {.protocol = IPPROTO_TCP,
                                .internal = {ip_address_from_ipv4(0x0a4d0002), 777},
                                .remote = {ip_address_from_ipv4(0xc6336401), 80}};
    writer_u8(&writer, MESSAGE_FIND_FLOW);
    message_put_flow(&writer, &flow);
    octets.size = writer_position(&writer);
    return octets;
}

static struct octets short_message(uint8_t type, size_t size)
{
    struct octets octets = {.data = {type}, .size = size};
    return octets;
}

static void assert_ends_it(const struct fixture *fixture, bool is_question,
                           const struct octets *first, const struct octets *second)
{
    struct bare bare = bare_start(fixture);
    int fd = is_question ? bare.channels.questions : bare.channels.commands;
    assert_int_equal(channel_send(fd, first->data, first->size), 0);
    if (second)
        (void) !channel_send(fd, second->data, second->size);
    assert_true(ends(fd));
    assert_int_equal(bare_end(&bare), HELPER_EXIT_BAD_MESSAGE);
}

static void test_helper_run_well_formed_is_answered(void **state)
{
    if (!fixture_is_possible())
        skip();
    const struct octets commands[] = {a_reconcile(3, 3),
                                      some_changes(MESSAGE_APPLY, 3, 3),
                                      some_changes(MESSAGE_CUT_FLOWS, 2, 2),
                                      some_changes(MESSAGE_APPLY, 0, 0),
                                      short_message(MESSAGE_WATCH, 1),
                                      short_message(MESSAGE_REMOVE_ALL, 1)};
    struct octets question = a_question();
    struct bare bare = bare_start(*state);
    for (size_t i = 0; i < N_ELEMENTS(commands); i++) {
        assert_int_equal(channel_send(bare.channels.commands, commands[i].data, commands[i].size),
                         0);
        assert_false(ends(bare.channels.commands));
    }
    assert_int_equal(channel_send(bare.channels.questions, question.data, question.size), 0);
    assert_false(ends(bare.channels.questions));
    assert_int_equal(bare_end(&bare), HELPER_EXIT_ENGINE_GONE);
}

static void test_helper_run_unknown_types_end_it(void **state)
{
    if (!fixture_is_possible())
        skip();
    static const uint8_t no_commands[] = {0,
                                          MESSAGE_ITEMS,
                                          MESSAGE_FIND_FLOW,
                                          MESSAGE_RELOAD,
                                          MESSAGE_READY,
                                          MESSAGE_VERDICT,
                                          MESSAGE_TOUCHED,
                                          255};
    static const uint8_t no_questions[] = {0,
                                           MESSAGE_APPLY,
                                           MESSAGE_RECONCILE,
                                           MESSAGE_ITEMS,
                                           MESSAGE_REMOVE_ALL,
                                           MESSAGE_WATCH,
                                           MESSAGE_VERDICT,
                                           255};
    for (size_t i = 0; i < N_ELEMENTS(no_commands); i++) {
        struct octets octets = short_message(no_commands[i], 1);
        assert_ends_it(*state, false, &octets, NULL);
    }
    for (size_t i = 0; i < N_ELEMENTS(no_questions); i++) {
        struct octets octets = short_message(no_questions[i], 1);
        assert_ends_it(*state, true, &octets, NULL);
    }
}

static void test_helper_run_octets_left_over_end_it(void **state)
{
    if (!fixture_is_possible())
        skip();
    struct octets commands[] = {
        a_reconcile(3, 3), some_changes(MESSAGE_APPLY, 3, 3), some_changes(MESSAGE_CUT_FLOWS, 0, 0),
        short_message(MESSAGE_WATCH, 1), short_message(MESSAGE_REMOVE_ALL, 1)};
    struct octets questions[] = {a_question(), short_message(MESSAGE_RELOAD, 1)};
    for (size_t i = 0; i < N_ELEMENTS(commands); i++) {
        commands[i].data[commands[i].size++] = 0;
        assert_ends_it(*state, false, &commands[i], NULL);
    }
    for (size_t i = 0; i < N_ELEMENTS(questions); i++) {
        questions[i].data[questions[i].size++] = 0;
        assert_ends_it(*state, true, &questions[i], NULL);
    }
}

static void test_helper_run_more_or_fewer_items_than_announced_end_it(void **state)
{
    if (!fixture_is_possible())
        skip();
    struct octets more = some_changes(MESSAGE_APPLY, 2, 3);
    struct octets fewer = some_changes(MESSAGE_APPLY, 4, 3);
    struct octets none = short_message(MESSAGE_ITEMS, 1);
    struct octets other = short_message(MESSAGE_WATCH, 1);
    struct octets many = some_changes(MESSAGE_APPLY, UINT32_MAX, 0);
    struct octets many_records = a_reconcile(UINT32_MAX, 0);
    assert_ends_it(*state, false, &more, NULL);
    assert_ends_it(*state, false, &fewer, &none);
    assert_ends_it(*state, false, &fewer, &other);
    assert_ends_it(*state, false, &many, NULL);
    assert_ends_it(*state, false, &many_records, NULL);
}

static void test_helper_run_message_too_large_ends_it(void **state)
{
    static const uint8_t data[CHANNEL_MESSAGE_SIZE + 1] = {MESSAGE_WATCH};
    if (!fixture_is_possible())
        skip();
    struct bare bare = bare_start(*state);
    assert_int_equal(send(bare.channels.commands, data, sizeof(data), MSG_NOSIGNAL), sizeof(data));
    assert_true(ends(bare.channels.commands));
    assert_int_equal(bare_end(&bare), HELPER_EXIT_BAD_MESSAGE);
}

static void mutate(struct octets *octets, struct random_source *random)
{
    for (uint64_t n = random_below(random, 6); n > 0; n--)
        octets->data[random_below(random, octets->size)] = (uint8_t) random_u64(random);
    if (random_below(random, 4) == 0)
        octets->size = 1 + random_below(random, octets->size);
}

/* It answers or ends by itself; it is never killed for what it did. */
static void test_helper_run_survives_random_messages(void **state)
{
    struct random_source random = random_seeded(6887);
    struct octets end = short_message(255, 1);
    int n_answered = 0;
    if (!fixture_is_possible())
        skip();
    for (int i = 0; i < 150; i++) {
        struct octets mutants[] = {a_reconcile(9, 9), some_changes(MESSAGE_APPLY, 9, 9),
                                   some_changes(MESSAGE_CUT_FLOWS, 9, 9), a_question()};
        struct octets *mutant = &mutants[i % 4];
        bool is_question = i % 4 == 3;
        struct bare bare = bare_start(*state);
        int fd = is_question ? bare.channels.questions : bare.channels.commands;
        mutate(mutant, &random);
        assert_int_equal(channel_send(fd, mutant->data, mutant->size), 0);
        (void) !channel_send(fd, end.data, end.size);
        if (!ends(fd)) {
            n_answered++;
            assert_true(ends(fd));
        }
        assert_int_equal(bare_end(&bare), HELPER_EXIT_BAD_MESSAGE);
    }
    assert_in_range(n_answered, 10, 140);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_helper_run_well_formed_is_answered),
        TEST(test_helper_run_unknown_types_end_it),
        TEST(test_helper_run_octets_left_over_end_it),
        TEST(test_helper_run_more_or_fewer_items_than_announced_end_it),
        TEST(test_helper_run_message_too_large_ends_it),
        TEST(test_helper_run_survives_random_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
