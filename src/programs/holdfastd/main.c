/* holdfastd: the command line, and nothing else. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs/holdfastd/daemon.h"

#define DEFAULT_CONFIG "/etc/holdfast/holdfastd.conf"

enum {
    OPTION_CHECK = 256,
    OPTION_VOLATILE,
    OPTION_NEW_STATE,
    OPTION_REMOVE_RULES,
    OPTION_LOG_LEVEL
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"volatile", no_argument, NULL, OPTION_VOLATILE},
    {"new-state", no_argument, NULL, OPTION_NEW_STATE},
    {"remove-rules", no_argument, NULL, OPTION_REMOVE_RULES},
    {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void print_help(void)
{
    puts("Usage: holdfastd [OPTION]...\n"
         "The Port Control Protocol server: grants port mappings and keeps them. Runs in the "
         "foreground.\n"
         "\n"
         "  -c, --config FILE    configuration (default " DEFAULT_CONFIG ")\n"
         "      --check          check the configuration, print it as understood, and exit\n"
         "      --new-state      move the stored state aside and start without any\n"
         "      --volatile       keep state in memory only: it is lost with the process\n"
         "      --remove-rules   remove holdfastd's table from the kernel, and exit\n"
         "      --log-level L    error, warning, notice, info or debug; overrides the "
         "configuration\n"
         "  -V, --version        print the version, and exit\n"
         "  -h, --help           print this, and exit\n"
         "\n"
         "SIGHUP reads the configuration again; SIGTERM stops. Mappings stay in the kernel over a "
         "stop and a crash.\n"
         "Exit status: 0 stopped as asked, 1 could not start or serve, 2 wrong usage. See "
         "holdfastd(8).");
}

static int usage_error(const char *what)
{
    fprintf(stderr, "holdfastd: %s (try --help)\n", what);
    return 2;
}

/* getopt has moved past the argument it did not like. */
static int argument_error(char **argv, const char *what)
{
    fprintf(stderr, "holdfastd: %s: %s (try --help)\n", argv[optind - 1], what);
    return 2;
}

int main(int argc, char **argv)
{
    struct daemon_options options = {.config_path = DEFAULT_CONFIG};

    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":c:Vh", long_options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            options.config_path = optarg;
            break;
        case OPTION_CHECK:
            options.check = true;
            break;
        case OPTION_VOLATILE:
            options.is_volatile = true;
            break;
        case OPTION_NEW_STATE:
            options.new_state = true;
            break;
        case OPTION_REMOVE_RULES:
            options.remove_rules = true;
            break;
        case OPTION_LOG_LEVEL:
            if (log_level_parse(optarg, &options.log_level) < 0)
                return usage_error("--log-level must be error, warning, notice, info or debug");
            options.has_log_level = true;
            break;
        case 'V':
            puts("holdfastd " HOLDFAST_VERSION);
            return 0;
        case 'h':
            print_help();
            return 0;
        case ':':
            return argument_error(argv, "lacks its argument");
        default:
            return argument_error(argv, "unknown option");
        }
    }
    if (optind < argc)
        return usage_error("takes no arguments");
    if (options.is_volatile && options.new_state)
        return usage_error("--volatile and --new-state exclude each other");
    if (options.check + options.remove_rules + options.new_state > 1)
        return usage_error("--check, --remove-rules and --new-state exclude each other");
    return daemon_run(&options);
}
