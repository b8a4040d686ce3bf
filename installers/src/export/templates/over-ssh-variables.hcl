@PROGRAM@
variable "root" {
  type        = string
  default     = "@ROOT@"
  description = "The tree to bake: / is the machine itself, a mount point the volume of an ebssurrogate build."
}

variable "report" {
  type        = string
  default     = "ssmbake-report.json"
  description = "Where the report is downloaded to."
}

variable "sbom" {
  type        = string
  default     = "ssmbake-sbom.cdx.json"
  description = "Where the bill of materials is downloaded to: CycloneDX, or SPDX where it ends in .spdx.json."
}
