/*
 * What libconfuse makes of a text: values with their lines. Complaints are tested by the files of
 * test_settings.c.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/directive.h"
#include "config/document.h"

struct fixture {
    struct document document;
    struct complaints complaints;
};

static int parse(struct fixture *fixture, const char *text)
{
    complaints_init(&fixture->complaints);
    return document_parse(text, &fixture->document, &fixture->complaints);
}

static void release(struct fixture *fixture)
{
    document_deinit(&fixture->document);
    complaints_deinit(&fixture->complaints);
}

static const struct document_entry *entry_of(const struct fixture *fixture, const char *name,
                                             enum directive_section section)
{
    return &fixture->document.entries[directive_find(name, section)];
}

static void test_document_parse_lines(void **state)
{
    (void) state;
    struct fixture fixture;
    assert_int_equal(parse(&fixture, "log-level = info\nserver {\n external-ports = {\"1\",\n2,\n\n"
                                     "3}\nexternal-addresses =\n{}}"),
                     0);
    const struct document_entry *ports = entry_of(&fixture, "external-ports", DIRECTIVE_SERVER);
    assert_int_equal(ports->n_values, 3);
    assert_int_equal(ports->line, 3);
    assert_string_equal(ports->values[1].text, "2");
    assert_int_equal(ports->values[1].line, 4);
    assert_int_equal(ports->values[2].line, 6);
    assert_int_equal(entry_of(&fixture, "log-level", DIRECTIVE_TOP)->line, 1);
    const struct document_entry *addresses =
        entry_of(&fixture, "external-addresses", DIRECTIVE_SERVER);
    assert_int_equal(addresses->n_values, 0);
    assert_int_equal(addresses->line, 7);
    assert_int_equal(entry_of(&fixture, "internal-prefixes", DIRECTIVE_SERVER)->line, 0);
    assert_int_equal(fixture.document.server_line, 2);
    assert_int_equal(fixture.complaints.n_items, 0);
    release(&fixture);
}

static void test_document_parse_appended_list(void **state)
{
    (void) state;
    struct fixture fixture;
    assert_int_equal(parse(&fixture, "server { external-ports = {1}\nexternal-ports += {2, 3} }"),
                     0);
    assert_int_equal(entry_of(&fixture, "external-ports", DIRECTIVE_SERVER)->n_values, 3);
    assert_int_equal(fixture.complaints.n_items, 0);
    release(&fixture);
}

static void test_document_parse_empty(void **state)
{
    (void) state;
    struct fixture fixture;
    assert_int_equal(parse(&fixture, ""), 0);
    assert_int_equal(fixture.document.server_line, 0);
    assert_int_equal(fixture.complaints.n_items, 0);
    release(&fixture);
}

static void test_document_parse_unknown_goes_on(void **state)
{
    (void) state;
    struct fixture fixture;
    assert_int_equal(parse(&fixture, "a = 1\nb = {1, 2}\nc = {}\nlog-level = x"), 0);
    assert_int_equal(fixture.complaints.n_items, 3);
    for (unsigned int i = 0; i < 3; i++)
        assert_int_equal(fixture.complaints.items[i].line, i + 1);
    assert_int_equal(entry_of(&fixture, "log-level", DIRECTIVE_TOP)->line, 4);
    release(&fixture);
}

static void test_document_parse_stops_at_syntax_error(void **state)
{
    (void) state;
    struct fixture fixture;
    assert_int_equal(parse(&fixture, "log-level = x\n= 5\nlog-level = y"), -EINVAL);
    assert_int_equal(fixture.complaints.n_items, 1);
    assert_int_equal(fixture.complaints.items[0].line, 2);
    release(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document_parse_lines),
        cmocka_unit_test(test_document_parse_appended_list),
        cmocka_unit_test(test_document_parse_empty),
        cmocka_unit_test(test_document_parse_unknown_goes_on),
        cmocka_unit_test(test_document_parse_stops_at_syntax_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
