// SPDX-License-Identifier: Apache-2.0
// What a program says: results, whose loss is an error, and remarks, which are worth no failure.
#pragma once

#include <string_view>

namespace lockstep {

// Prints to the standard output. Throws Error(file) when the text is lost.
void print_output(std::string_view text);
// Makes sure that all of it is out. Throws Error(file).
void flush_output();

// Prints to standard error; where nobody can be told, nothing happens.
void print_remark(std::string_view text) noexcept;

// To be called first in main(). A standard stream that is closed is opened on /dev/null, so that no file of the program
// gets its number, and the text that is meant for it. A file that grows over `ulimit -f` is an error of writing it then
// and not the end of the process.
void prepare_standard_streams();

}  // namespace lockstep
