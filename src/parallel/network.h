// Which of this machine's addresses its peers can reach.
#pragma once

#include <string>

namespace norma {

// The local address from which packets to `host` leave: 127.0.0.1 for a job on one machine, the right network's for
// several. A machine's own name is no help: many resolve it to 127.0.0.1. Throws CollectiveError when `host` is
// unknown.
std::string address_towards(const std::string& host, int port);

}  // namespace norma
