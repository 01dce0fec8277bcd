// What a run folder says of a run before it trains, from what a command knows.
#pragma once

#include <string>
#include <vector>

#include "norma/record/run_folder.h"
#include "norma/train/run_plan.h"

#include "checked_config.h"

namespace norma {

// `arguments` is the whole command line; `device` is for people.
RunDescription describe_run(const CheckedConfig& checked, const RunPlan& plan,
                            const std::vector<std::string>& arguments, const std::string& device);

}  // namespace norma
