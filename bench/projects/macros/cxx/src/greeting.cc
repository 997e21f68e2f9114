#include "with-cxx/src/greeting.h"
#include <string>

rust::String greeting(std::uint32_t number) {
    return rust::String(GREETING " " + std::to_string(number));
}
