variable "ssmbake" {
  type        = string
  default     = "ssmbake"
  description = "The ssmbake binary for the machine that runs it; a static one for other machines than this."
}

