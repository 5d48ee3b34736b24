#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/complaints.h"

static void test_complaints_format_sorted_by_line(void **state)
{
    (void) state;
    struct complaints complaints;
    complaints_init(&complaints);
    complaints_add(&complaints, 7, "seven");
    complaints_add(&complaints, 2, "two %d", 1);
    complaints_add(&complaints, 2, "two %d", 2);
    char *text = complaints_format(&complaints, "a/b.conf");
    assert_string_equal(text, "a/b.conf:2: two 1\na/b.conf:2: two 2\na/b.conf:7: seven");
    free(text);
    complaints_deinit(&complaints);
    assert_int_equal(complaints.n_items, 0);
}

static void test_complaints_add_bounded(void **state)
{
    (void) state;
    struct complaints complaints;
    complaints_init(&complaints);
    for (unsigned int i = 0; i < 2 * COMPLAINTS_MAX; i++)
        complaints_add(&complaints, i, "x");
    assert_int_equal(complaints.n_items, COMPLAINTS_MAX);
    complaints_deinit(&complaints);
}

static void test_complaints_quote_hostile(void **state)
{
    (void) state;
    char quote[COMPLAINTS_QUOTE_SIZE], text[200];
    assert_string_equal(complaints_quote("a\nb\x1b\xff", quote), "a?b??");
    memset(text, 'x', sizeof(text));
    text[COMPLAINTS_QUOTE_SIZE - 1] = '\0';
    assert_string_equal(complaints_quote(text, quote), text);
    text[COMPLAINTS_QUOTE_SIZE - 1] = 'x';
    text[sizeof(text) - 1] = '\0';
    complaints_quote(text, quote);
    assert_int_equal(strlen(quote), COMPLAINTS_QUOTE_SIZE - 1);
    assert_string_equal(quote + strlen(quote) - 4, "x...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complaints_format_sorted_by_line),
        cmocka_unit_test(test_complaints_add_bounded),
        cmocka_unit_test(test_complaints_quote_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
