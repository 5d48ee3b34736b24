/* The table itself, and that the man page tells what it says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/directive.h"
#include "config/settings.h"
#include "config/text.h"
#include "config/value.h"

static void test_directive_find_each(void **state)
{
    (void) state;
    for (size_t i = 0; i < n_directives; i++) {
        assert_int_equal(directive_find(directives[i].name, directives[i].section), i);
        for (enum directive_section other = 0; other < DIRECTIVE_SECTIONS; other++) {
            if (other != directives[i].section)
                assert_int_equal(directive_find(directives[i].name, other), n_directives);
        }
    }
    assert_int_equal(directive_find("nonsense", DIRECTIVE_SERVER), n_directives);
}

static void test_directives_defaults_are_valid(void **state)
{
    (void) state;
    for (size_t i = 0; i < n_directives; i++) {
        assert_true(directives[i].n_min <= directives[i].n_max);
        for (size_t j = 0; directives[i].defaults[j]; j++) {
            union {
                char *path;
                char octets[64];
            } item = {0};
            const char *wrong = NULL;
            assert_int_equal(
                directives[i].kind->parse(&directives[i], directives[i].defaults[j], &item, &wrong),
                0);
            assert_null(wrong);
            if (directives[i].kind->is_owned)
                free(item.path);
        }
        if (directives[i].is_required)
            assert_null(directives[i].defaults[0]);
    }
}

static void test_directive_allowed_range(void **state)
{
    (void) state;
    char allowed[DIRECTIVE_ALLOWED_SIZE];
    const struct directive *directive =
        &directives[directive_find("recycle-delay", DIRECTIVE_SERVER)];
    assert_string_equal(directive_allowed(directive, allowed), "0 to 86400 seconds");
    directive = &directives[directive_find("log-level", DIRECTIVE_TOP)];
    assert_string_equal(directive_allowed(directive, allowed),
                        "error, warning, notice, info or debug");
}

static void test_directive_section_name_each(void **state)
{
    (void) state;
    assert_null(directive_section_name(DIRECTIVE_TOP));
    assert_string_equal(directive_section_name(DIRECTIVE_SERVER), "server");
    assert_string_equal(directive_section_name(DIRECTIVE_STATIC), "static");
}

/*
 * The paragraph of a directive, from its name at the start of a line to the next such line, with
 * its lines joined.
 */
static char *man_paragraph(const char *page, const char *name)
{
    char start[64];
    snprintf(start, sizeof(start), "\n*%s* = ", name);
    const char *begin = strstr(page, start);
    if (!begin)
        return NULL;
    const char *end = strstr(begin + 1, "\n*");
    char *paragraph = strndup(begin, end ? (size_t) (end - begin) : strlen(begin));
    char *joined = paragraph;
    for (const char *octet = paragraph; *octet; octet++) {
        if (*octet != '\t')
            *joined++ = *octet == '\n' ? ' ' : *octet;
    }
    *joined = '\0';
    return paragraph;
}

static void check_paragraph(const struct directive *directive, const char *paragraph)
{
    char allowed[DIRECTIVE_ALLOWED_SIZE];
    if (directive->kind == &value_number)
        assert_non_null(strstr(paragraph, directive_allowed(directive, allowed)));
    if (directive->is_required)
        assert_non_null(strstr(paragraph, "Required."));
    else
        assert_non_null(strstr(paragraph, "Default: "));
    for (size_t i = 0; directive->defaults[i]; i++)
        assert_non_null(strstr(paragraph, directive->defaults[i]));
    if (directive_is_list(directive)) {
        char most[32];
        snprintf(most, sizeof(most), "At most %zu", directive->n_max);
        assert_non_null(strstr(paragraph, most));
    }
}

static void test_directives_are_in_man_page(void **state)
{
    (void) state;
    char *page;
    size_t size_bytes;
    assert_int_equal(text_read(SOURCE_ROOT "/man/holdfastd.conf.5.scd", &page, &size_bytes), 0);
    for (size_t i = 0; i < n_directives; i++) {
        char *paragraph = man_paragraph(page, directives[i].name);
        if (!paragraph)
            fail_msg("%s is not in the man page", directives[i].name);
        check_paragraph(&directives[i], paragraph);
        free(paragraph);
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directive_find_each),
        cmocka_unit_test(test_directives_defaults_are_valid),
        cmocka_unit_test(test_directive_allowed_range),
        cmocka_unit_test(test_directive_section_name_each),
        cmocka_unit_test(test_directives_are_in_man_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
