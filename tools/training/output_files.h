// SPDX-License-Identifier: Apache-2.0
// The files that commands write: rank 0 alone writes them, and none of them destroys another file of the run.
#pragma once

#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/files/file_identity.h"

namespace lockstep {

// Collective, before any file is opened for writing. `outputs` are options and the files that they name ("--ledger",
// "run.ledger"), empty where none is asked for. Error(usage) on every rank if one names a file that rank 0 does not
// write; on rank 0, check_separate() of all.
void check_outputs(Communicator& communicator, const std::vector<NamedFile>& outputs,
                   const std::vector<NamedFile>& inputs = {});

// Whether --save names a folder, and the file that will be written first: a folder is made where it is missing.
inline bool names_folder(const std::string& path) { return path.ends_with('/'); }
std::string what_is_written(const std::string& path);

}  // namespace lockstep
