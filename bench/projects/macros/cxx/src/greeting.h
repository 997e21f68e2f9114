#pragma once
#include "rust/cxx.h"
#include <cstdint>

#define GREETING "hello"

rust::String greeting(std::uint32_t number);
