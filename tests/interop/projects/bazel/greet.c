#include "greet.h"

int greet(void) { return 42; }
