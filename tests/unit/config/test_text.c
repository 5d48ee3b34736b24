#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/text.h"

static void check_prepared(const char *text, const char *expected)
{
    char *copy = strdup(text);
    struct complaints complaints;
    complaints_init(&complaints);
    assert_int_equal(text_prepare(copy, strlen(copy), &complaints), 0);
    assert_string_equal(copy, expected);
    assert_int_equal(complaints.n_items, 0);
    complaints_deinit(&complaints);
    free(copy);
}

static void check_refused(const char *text, size_t size_bytes, unsigned int line, const char *word)
{
    char *copy = malloc(size_bytes + 1);
    memcpy(copy, text, size_bytes);
    copy[size_bytes] = '\0';
    struct complaints complaints;
    complaints_init(&complaints);
    assert_int_equal(text_prepare(copy, size_bytes, &complaints), -EINVAL);
    assert_int_equal(complaints.n_items, 1);
    assert_int_equal(complaints.items[0].line, line);
    assert_non_null(strstr(complaints.items[0].text, word));
    complaints_deinit(&complaints);
    free(copy);
}

static void test_text_prepare_comments(void **state)
{
    (void) state;
    check_prepared("a = 1 # b\nc", "a = 1    \nc");
    check_prepared("a = 1// b\nc", "a = 1// b\nc");
    check_prepared("a = 1 // b", "a = 1     ");
    check_prepared("/* \n*/a/* b */", "   \n  a/* b */");
    check_prepared("{/**/}", "{    }");
    check_prepared("10.0.0.0/8", "10.0.0.0/8");
    check_prepared("\"# // /* \\\" \" '\\' #'#", "\"# // /* \\\" \" '\\' #' ");
    check_prepared("", "");
}

static void test_text_prepare_without_end(void **state)
{
    (void) state;
    check_refused("a\n\"b\n\n", 6, 2, "string without end");
    check_refused("a\n\n'b", 5, 3, "string without end");
    check_refused("\"b\\", 3, 1, "string without end");
    check_refused("\"b\\\"", 4, 1, "string without end");
    check_refused("a\n/* b\n\n", 8, 2, "comment without end");
    check_refused("/*/", 3, 1, "comment without end");
    check_refused("/*", 2, 1, "comment without end");
}

static void test_text_prepare_controls(void **state)
{
    (void) state;
    check_refused("a\nb\0c", 5, 2, "0x00");
    check_refused("\n\n\"\x1b\"", 5, 3, "0x1b");
    check_refused("# \x7f", 3, 1, "0x7f");
    check_refused("a\n= ${b}", 8, 2, "outside quotes");
    check_prepared("\"${b}\" # $", "\"${b}\"    ");
    check_prepared("a\t\r\n\xc3\xa4", "a\t\r\n\xc3\xa4");
}

static void test_text_count_lines_trailing_blanks(void **state)
{
    (void) state;
    assert_int_equal(text_count_lines(""), 1);
    assert_int_equal(text_count_lines("a"), 1);
    assert_int_equal(text_count_lines("a\nb\n\n \n"), 2);
    assert_int_equal(text_count_lines("\n\n}"), 3);
}

static void test_text_find_statement_signs(void **state)
{
    (void) state;
    static const char text[] = "a = 1\nserver {\n  aa = 2\n a += 3\n}\n\"a\" = 4\nserver\n{}";
    assert_int_equal(text_find_statement(text, "a", '=', 0), 1);
    assert_int_equal(text_find_statement(text, "a", '=', 1), 4);
    assert_int_equal(text_find_statement(text, "a", '=', 2), 6);
    assert_int_equal(text_find_statement(text, "a", '=', 3), 0);
    assert_int_equal(text_find_statement(text, "a", '{', 0), 0);
    assert_int_equal(text_find_statement(text, "server", '{', 1), 7);
}

static void check_section(const char *text, unsigned int n_lines, const char *body)
{
    unsigned int found_lines = 99;
    const char *found = NULL;
    assert_int_equal(text_find_titled_section(text, "static", &found_lines, &found), body != NULL);
    if (!body)
        return;
    assert_int_equal(found_lines, n_lines);
    assert_string_equal(found, body);
}

static void test_text_find_titled_section_shapes(void **state)
{
    (void) state;
    check_section("static a { b", 0, " b");
    check_section("static a{b", 0, "b");
    check_section("\nx = 1\nstatic\n'a b'\n{\n}", 4, "\n}");
    check_section("static \"a\\\"\n{\" { b", 1, " b");
    check_section("x = \"static a {\" static b { c", 0, " c");
    check_section("x = 'static a {", 0, NULL);
    check_section("statics a { static-b c { static = d", 0, NULL);
    check_section("static { static a = {", 0, NULL);
    check_section("static static { a", 0, " a");
}

static void make_file(const char *path, off_t size_bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size_bytes), 0);
    close(fd);
}

static void test_text_read_whole_file(void **state)
{
    (void) state;
    char path[] = "/tmp/holdfast-test-XXXXXX";
    char *text;
    size_t size_bytes;
    close(mkstemp(path));
    assert_int_equal(text_read(path, &text, &size_bytes), 0);
    assert_int_equal(size_bytes, 0);
    assert_string_equal(text, "");
    free(text);
    make_file(path, TEXT_SIZE_MAX);
    assert_int_equal(text_read(path, &text, &size_bytes), 0);
    assert_int_equal(size_bytes, TEXT_SIZE_MAX);
    free(text);
    make_file(path, TEXT_SIZE_MAX + 1);
    assert_int_equal(text_read(path, &text, &size_bytes), -EFBIG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(text_read(path, &text, &size_bytes), -ENOENT);
}

/* None of them is waited for. */
static void test_text_read_what_is_no_file(void **state)
{
    (void) state;
    char directory[] = "/tmp/holdfast-test-XXXXXX", fifo[64];
    char *text;
    size_t size_bytes;
    assert_non_null(mkdtemp(directory));
    snprintf(fifo, sizeof(fifo), "%s/fifo", directory);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    alarm(10);
    assert_int_equal(text_read(fifo, &text, &size_bytes), -EINVAL);
    alarm(0);
    assert_int_equal(text_read("/dev/zero", &text, &size_bytes), -EINVAL);
    assert_int_equal(text_read(directory, &text, &size_bytes), -EISDIR);
    assert_int_equal(unlink(fifo), 0);
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_prepare_comments),
        cmocka_unit_test(test_text_prepare_without_end),
        cmocka_unit_test(test_text_prepare_controls),
        cmocka_unit_test(test_text_count_lines_trailing_blanks),
        cmocka_unit_test(test_text_find_statement_signs),
        cmocka_unit_test(test_text_find_titled_section_shapes),
        cmocka_unit_test(test_text_read_whole_file),
        cmocka_unit_test(test_text_read_what_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
