// What agnhost calls of this module, without the kernel's SCTP.
module github.com/ishidawataru/sctp

go 1.24.0
