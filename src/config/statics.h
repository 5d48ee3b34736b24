#pragma once

/* The sections static: their names, and what only holds between their options and the others. */

#include <stdbool.h>

#include "config/complaints.h"
#include "config/directive.h"
#include "config/document.h"
#include "config/settings.h"

/* Takes and checks the names. */
void statics_name(struct settings *settings, const struct document *document,
                  struct complaints *complaints);
/* To be called with settings that are right otherwise. Fills in what the file may leave out. */
void statics_complete(struct settings *settings, const struct document *document,
                      struct complaints *complaints);
/* Whether a dump shows the directive: the external address or the port alone. */
bool statics_has(const struct settings_static *mapping, const struct directive *directive);
