# Bakes the SSM agent into a root tree that something else made and mounted.
#   packer build -var root=/mnt/image ssmbake.pkr.hcl
variable "root" {
  type = string
}

@PROGRAM@
variable "report" {
  type    = string
  default = "ssmbake-report.json"
}

variable "sbom" {
  type        = string
  default     = "ssmbake-sbom.cdx.json"
  description = "CycloneDX, or SPDX where it ends in .spdx.json."
}

source "null" "tree" {
  communicator = "none"
}

build {
  sources = ["source.null.tree"]

  provisioner "shell-local" {
    inline = [
      @GET_HERE@
      "\"$program\" apply --root '${var.root}' @FLAGS@ --report '${var.report}' --sbom '${var.sbom}'",
      "\"$program\" audit --root '${var.root}'",
    ]
  }
}
