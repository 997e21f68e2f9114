#include <stdio.h>

#include "greet.h"

int main(void) {
    printf("%d\n", greet());
    return 0;
}
