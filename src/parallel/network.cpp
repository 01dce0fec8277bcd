#include "network.h"

#include <cstring>
#include <memory>

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "norma/base/error.h"

namespace norma {
namespace {

std::string numeric(const sockaddr_storage& address, socklen_t length) {
  char text[NI_MAXHOST];
  const int failed =
      getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  return failed == 0 ? text : "";
}

// "" when there is no route. Connecting a datagram socket sends nothing; it chooses the route.
std::string source_address(const addrinfo& target) {
  const int socket = ::socket(target.ai_family, SOCK_DGRAM, 0);
  if (socket < 0) return "";
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  const bool known = connect(socket, target.ai_addr, target.ai_addrlen) == 0 &&
                     getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  close(socket);
  return known ? numeric(address, length) : "";
}

}  // namespace

std::string address_towards(const std::string& host, int port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  const int failed = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) throw CollectiveError(cat("[parallel] MASTER_ADDR ", host, ": ", gai_strerror(failed)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const std::string address = source_address(*one);
    if (!address.empty()) return address;
  }
  throw CollectiveError(cat("[parallel] no network of this machine leads to MASTER_ADDR ", host));
}

}  // namespace norma
